"""A bundle: the report in every form, its signed statement, and how to check it. Pure but for
`write` and `load`, which know files.

Everything but the statement is named in the statement by its SHA-256; nothing else may lie in
a bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from backups.errors import ConfigError, Damaged, IntegrityError
from backups.format.dsse import key_id, public_pem, read_public_pem
from verify import statement
from verify.render.html import html
from verify.render.pdf import pdf
from verify.render.readme import README
from verify.render.tables import ledgers
from verify.report.document import Report, read, to_json

STATEMENT = "statement.dsse.json"
KEY = "verify.pem"
LIMIT = 256 << 20
"""Bytes of one file of a bundle that are read at most."""


def files(report: Report, key: Ed25519PublicKey) -> dict[str, bytes]:
    """Every file but the statement, by name."""
    return {
        "report.json": to_json(report),
        "report.html": html(report).encode(),
        "report.pdf": pdf(report),
        **{name: text.encode() for name, text in ledgers(report).items()},
        KEY: public_pem(key),
        "README.txt": README.encode(),
    }


def make(report: Report, key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The whole bundle."""
    content = files(report, key.public_key())
    return {**content, STATEMENT: statement.sign(report, content, key)}


def digest_of(bundle: Mapping[str, bytes], name: str = STATEMENT) -> str:
    """Hex SHA-256 of a file; the statement's is what the next one names."""
    return hashlib.sha256(bundle[name]).hexdigest()


def in_order(bundle: Mapping[str, bytes]) -> list[str]:
    """Names in the order in which they are written: the statement last."""
    return sorted(bundle, key=lambda name: (name == STATEMENT, name))


def write(bundle: Mapping[str, bytes], folder: Path) -> None:
    """Into a folder that is empty or not there; the statement last. Raises ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", hint="Name a folder that is not there.")
    for name in in_order(bundle):
        (folder / name).write_bytes(bundle[name])


def load(folder: Path) -> dict[str, bytes]:
    """Every file of a bundle. Raises ConfigError, Damaged."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise Damaged(f"{path.name} is no file: a bundle holds nothing else")
        if path.stat().st_size > LIMIT:
            raise Damaged(f"{path.name} is longer than {LIMIT} bytes")
        found[path.name] = path.read_bytes()
    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    name: str
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a bundle found."""

    predicate: statement.Predicate | None
    digest: str
    """Of the statement."""
    key: str
    """Id of the key that was believed."""
    own_key: bool
    """It came with the bundle: then the bundle vouches for itself alone."""
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Nothing is wrong with it."""
        return all(finding.passed for finding in self.findings)


def check(bundle: Mapping[str, bytes], key: Ed25519PublicKey | None) -> Checked:
    """Hold a bundle against its statement, and that against `key`, or its own. Raises nothing
    that a bundle causes."""
    found: list[Finding] = []
    predicate = None
    believed = ""
    try:
        trusted = key or read_public_pem(bundle.get(KEY, b""))
        believed = key_id(trusted)
        if STATEMENT not in bundle:
            raise Damaged(f"there is no {STATEMENT}")
        predicate, subjects = statement.verify(bundle[STATEMENT], [trusted])
        found.append(Finding("signature", True, f"signed by key {believed}"))
        found += _files(bundle, subjects)
        if all(finding.passed for finding in found):
            found.append(_agrees(bundle, predicate))
    except (IntegrityError, ConfigError) as error:
        found.append(Finding("signature", False, str(error)))
    digest = hashlib.sha256(bundle.get(STATEMENT, b"")).hexdigest()
    return Checked(predicate, digest, believed, key is None, tuple(found))


def _files(bundle: Mapping[str, bytes], subjects: Sequence[statement.Subject]) -> list[Finding]:
    found = []
    for subject in subjects:
        if subject.name not in bundle:
            found.append(Finding(subject.name, False, "is gone"))
            continue
        same = hashlib.sha256(bundle[subject.name]).hexdigest() == subject.digest.sha256
        words = "as signed" if same else "was changed"
        found.append(Finding(subject.name, same, words))
    strange = sorted(set(bundle) - {STATEMENT} - {subject.name for subject in subjects})
    found += (Finding(name, False, "does not belong here") for name in strange)
    return found


def _agrees(bundle: Mapping[str, bytes], predicate: statement.Predicate) -> Finding:
    """The statement's short form is the report's: signed together, but by a program."""
    try:
        same = statement.predicate_of(read(bundle.get("report.json", b""))) == predicate
    except Damaged as error:
        return Finding("report", False, str(error))
    return Finding("report", same, "the statement says what the report says" if same
                   else "the statement says something else than the report")  # fmt: skip
