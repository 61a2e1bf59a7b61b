"""A home is made whole or refused, and its settings are checked."""

import os
from pathlib import Path

import pytest

from backups.entropy import SystemEntropy
from backups.errors import ConfigError
from backups.init import init_home
from backups.settings import Home, Settings, load_settings


def test_a_home_is_found_again(tmp_path: Path) -> None:
    made = init_home(tmp_path / "home", SystemEntropy())
    assert Home.at(tmp_path / "home") == made
    assert made.path.is_absolute()


@pytest.mark.parametrize("entries", [[], ["lost+found"]])
def test_an_empty_directory_becomes_a_home(tmp_path: Path, entries: list[str]) -> None:
    for name in entries:
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    home = init_home(tmp_path, SystemEntropy())
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert Home.at(tmp_path) == home


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    home = init_home(tmp_path / "home", SystemEntropy())
    before = {path: path.read_bytes() for path in home.keys.iterdir()}
    with pytest.raises(ConfigError, match="a home is there"):
        init_home(home.path, SystemEntropy())
    assert {path: path.read_bytes() for path in home.keys.iterdir()} == before

    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter").write_text("dear")
    with pytest.raises(ConfigError, match="not empty"):
        init_home(tmp_path / "used", SystemEntropy())
    assert os.listdir(tmp_path / "used") == ["letter"]


def test_a_home_that_was_not_finished_is_none(tmp_path: Path) -> None:
    home = init_home(tmp_path / "home", SystemEntropy())
    home.settings_file.unlink()
    for path in (home.path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="there is no home"):
            Home.at(path)
    with pytest.raises(ConfigError, match="not empty"):
        init_home(home.path, SystemEntropy())


def test_a_home_needs_a_directory_to_be_in(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "parent", tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(ConfigError, match="no home was made"):
            init_home(path, SystemEntropy())


def test_settings_have_defaults_and_limits(tmp_path: Path) -> None:
    home = init_home(tmp_path / "home", SystemEntropy())
    assert load_settings(home) == Settings()

    text = home.settings_file.read_text()
    home.settings_file.write_text(
        "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])
    )
    assert load_settings(home) == Settings()  # the file names the true defaults

    home.settings_file.write_text("zstd_level: 9\n")
    assert load_settings(home) == Settings(zstd_level=9)
    home.settings_file.write_text("zstd_levl: 9\nrestore_jobs: 0\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(home)
    assert ":1: zstd_levl: there is no such key; did you mean 'zstd_level'?" in str(
        caught.value
    )
    assert ":2: restore_jobs: must be greater than or equal to 1" in str(caught.value)
