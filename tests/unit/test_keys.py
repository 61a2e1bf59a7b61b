"""Keys are private from the start, and each is loaded by who needs it only."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from backups import keys
from backups.entropy import SystemEntropy
from backups.errors import ConfigError
from backups.format.age import Identity
from backups.init import init_home
from backups.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return init_home(tmp_path / "home", SystemEntropy())


def test_the_pairs_fit(home: Home) -> None:
    (verify_key,) = keys.load_verify_keys(home)
    assert keys.load_signing_key(home).public_key() == verify_key
    (identity,) = keys.load_identities(home.restore_identity)
    assert identity.recipient == keys.load_restore_recipient(home)


def test_homes_do_not_share_keys(home: Home, tmp_path: Path) -> None:
    other = init_home(tmp_path / "other", SystemEntropy())
    files = ("signing_key", "verify_key", "restore_identity", "restore_recipient")
    for name in files:
        assert getattr(home, name).read_text() != getattr(other, name).read_text()


def test_secrets_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = init_home(tmp_path / "home", SystemEntropy())
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in home.keys.iterdir()}
    assert modes == {
        "signing.pem": 0o600,
        "verify.pem": 0o644,
        "restore-identity.txt": 0o600,
        "restore-recipient.txt": 0o644,
    }
    for folder in (home.path, home.keys):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_stock_tools_read_them(home: Home, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"signed by the home")
    signature = tmp_path / "signature"
    signature.write_bytes(keys.load_signing_key(home).sign(text.read_bytes()))
    check = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-rawin",
        "-pubin",
        "-inkey",
        str(home.verify_key),
    ]
    subprocess.run([*check, "-in", str(text), "-sigfile", str(signature)], check=True)

    recipient = str(keys.load_restore_recipient(home))
    sealed = subprocess.run(
        ["age", "-r", recipient], input=b"x", capture_output=True, check=True
    )
    opened = subprocess.run(
        ["age", "-d", "-i", str(home.restore_identity)],
        input=sealed.stdout,
        capture_output=True,
        check=True,
    )
    assert opened.stdout == b"x"


def test_existing_keys_are_not_overwritten(home: Home) -> None:
    before = home.signing_key.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        keys.create_keys(home, SystemEntropy())
    assert home.signing_key.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_secrets_open_to_others_are_refused(home: Home, mode: int) -> None:
    home.signing_key.chmod(mode)
    home.restore_identity.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        keys.load_signing_key(home)
    assert caught.value.hint == f"chmod 0600 {home.signing_key}"
    with pytest.raises(ConfigError):
        keys.load_identities(home.restore_identity)


def test_public_keys_that_others_may_change_are_refused(home: Home) -> None:
    home.verify_key.chmod(0o666)
    home.restore_recipient.chmod(0o664)
    with pytest.raises(ConfigError, match="0666"):
        keys.load_verify_keys(home)
    with pytest.raises(ConfigError, match="0664"):
        keys.load_restore_recipient(home)


def test_taking_a_backup_opens_no_identity(home: Home, tmp_path: Path) -> None:
    """Every file that the backup's loaders open, as the interpreter's audit hook sees it."""
    opened = tmp_path / "opened"
    program = f"""
import sys
from pathlib import Path
from backups import keys
from backups.settings import Home
names = []
sys.addaudithook(lambda event, args: names.append(str(args[0])) if event == "open" else None)
home = Home.at(Path({str(home.path)!r}))
keys.load_signing_key(home), keys.load_verify_keys(home), keys.load_restore_recipient(home)
Path({str(opened)!r}).write_text("\\n".join(names))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    seen = opened.read_text().splitlines()
    assert str(home.signing_key) in seen
    assert str(home.restore_identity) not in seen


def test_an_identity_file_may_have_comments_and_several_keys(tmp_path: Path) -> None:
    one, two = (Identity.generate(SystemEntropy()) for _ in range(2))
    path = tmp_path / "identities"
    path.touch(0o600)
    path.write_text(f"# mine\n\n{one.reveal()}\n# theirs\n{two.reveal()}\n")
    assert keys.load_identities(path) == (one, two)


def test_what_is_no_key_is_refused_without_showing_it(home: Home, tmp_path: Path) -> None:
    foreign = generate_private_key(SECP256R1())
    pem = foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = foreign.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (b"", b"hunter2", b"\xff\xfe hunter2", b"hunter2" * 10000, pem, public):
        for path in (home.signing_key, home.verify_key, home.restore_identity):
            path.unlink()
            path.touch(0o600)
            path.write_bytes(content)
        for load in (
            lambda: keys.load_signing_key(home),
            lambda: keys.load_verify_keys(home),
            lambda: keys.load_identities(home.restore_identity),
        ):
            with pytest.raises(ConfigError) as caught:
                load()
            assert "hunter2" not in str(caught.value)
            assert caught.value.__cause__ is None


def test_what_is_no_file_is_refused(home: Home) -> None:
    home.signing_key.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        keys.load_signing_key(home)
    os.mkfifo(home.signing_key, 0o600)  # opening it must not wait for a writer
    with pytest.raises(ConfigError, match="is not a file"):
        keys.load_signing_key(home)
    home.signing_key.unlink()
    home.signing_key.mkdir(0o700)
    with pytest.raises(ConfigError):
        keys.load_signing_key(home)
    shutil.rmtree(home.signing_key)
    with pytest.raises(ConfigError):
        keys.load_identities(home.path / "missing")
