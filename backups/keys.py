"""The keys of a home: made once, each loaded by who needs it and nobody else.

Taking a backup calls `load_signing_key` and `load_restore_recipient`, which open no file
that decrypts; only restoring calls `load_identities`.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from backups.errors import ConfigError
from backups.format.age import Identity, Recipient, parse_identities
from backups.format.dsse import private_pem, public_pem, read_private_pem, read_public_pem
from backups.ports import Entropy, Role
from backups.private import WRITABLE, read_private, write_private
from backups.settings import Home


def create_keys(home: Home, entropy: Entropy) -> None:
    """Make a home's keys; none of its files may exist. Raises ConfigError.

    Secret files are 0600: the signing key as PKCS #8 PEM, the identity as `age-keygen`
    writes it. The public halves lie beside them, 0644, to be handed out.
    """
    signing = Ed25519PrivateKey.from_private_bytes(entropy.bytes(32))
    write_private(home.signing_key, private_pem(signing))
    write_private(home.verify_key, public_pem(signing.public_key()), mode=0o644)

    identity = Identity.generate(entropy)
    text = (
        "# The restore agent's age identity. It opens backups: keep it safe.\n"
        f"# public key: {identity.recipient}\n"
        f"{identity.reveal()}\n"
    )
    write_private(home.restore_identity, text.encode())
    write_private(home.restore_recipient, f"{identity.recipient}\n".encode(), mode=0o644)


def keys_of(home: Home, roles: Collection[Role]) -> set[Path]:
    """The key files that a process with these roles needs. Only `restore` decrypts."""
    needed = {home.verify_key, home.enrolment_key}
    if "backup" in roles:
        needed |= {home.signing_key, home.restore_recipient}
        needed |= set(home.keys.glob("customer-*.recipient"))
    if "prune" in roles:  # what it takes away it marks before, signed
        needed |= {home.signing_key}
    if "restore" in roles:
        sealed = home.sealed_identity.exists()
        needed |= {home.sealed_identity if sealed else home.restore_identity}
        needed |= {home.restore_recipient, *home.keys.glob("customer-*")}
    return needed


def roles_of(home: Home) -> set[Role]:
    """What the keys in a home are enough for; if it was made `--like` another, its roles."""
    found: set[Role] = {"api"}
    if home.signing_key.exists():
        found |= {"backup", "prune"}
    customers = home.keys.glob("customer-*.sealed")
    if any(key.exists() for key in (home.restore_identity, home.sealed_identity, *customers)):
        found.add("restore")
    return found


def load_enrolment_key(home: Home, entropy: Entropy) -> bytes:
    """32 bytes that external ids, ownership nonces and canaries are derived from; made when
    first asked for. Raises ConfigError."""
    if not home.enrolment_key.exists():
        with suppress(ConfigError):  # another process was quicker
            write_private(home.enrolment_key, entropy.bytes(32).hex().encode())
    text = read_private(home.enrolment_key, "the enrolment key")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"the enrolment key {home.enrolment_key} is not one")
    return key


def load_signing_key(home: Home) -> Ed25519PrivateKey:
    """What manifests are signed with. Raises ConfigError."""
    return read_private_pem(read_private(home.signing_key, "the signing key").encode())


def load_verify_keys(home: Home) -> tuple[Ed25519PublicKey, ...]:
    """The keys whose manifests this home believes. Raises ConfigError."""
    return (load_verify_key(home.verify_key),)


def load_verify_key(path: Path) -> Ed25519PublicKey:
    """The trust anchor that a customer was handed. Raises ConfigError."""
    return read_public_pem(read_private(path, "the verify key", refused=WRITABLE).encode())


def load_restore_recipient(home: Home, customer: str = "") -> Recipient:
    """The restore agent's public half, which every backup is encrypted to too: a customer's own
    one where there is one."""
    what, path = "the restore agent's recipient", home.restore_recipient
    if customer and home.customer_recipient(customer).exists():
        path = home.customer_recipient(customer)
    return Recipient.parse(read_private(path, what, refused=WRITABLE))


def load_identities(path: Path) -> tuple[Identity, ...]:
    """Every identity of a file as `age-keygen` writes it. Raises ConfigError."""
    return parse_identities(read_private(path, "the identity file"))
