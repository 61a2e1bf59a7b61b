"""What may be wrong with this machine and its home, looked at without changing anything."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backups.errors import BackupsError
from backups.settings import load_settings
from backups.wiring.app import App
from backups.wiring.serving import queue_of

LITTLE = 1 << 30
"""Bytes: less free space is warned about."""
_EXTRAS = {
    "serve": ("schedule",),
    "workers": ("procrastinate",),
    "api": ("fastapi", "uvicorn", "jwt", "jinja2"),
    "report": ("fpdf", "jinja2"),
    "gcs": ("google.cloud.storage",),
    "azure": ("azure.storage.blob", "azure.identity"),
    "mysql": ("pymysql",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["good", "warning", "bad"]
    words: str
    hint: str = ""


def doctor(app: App) -> list[Finding]:
    """Everything that can be told from here; an error is a finding."""
    return [finding for look in LOOKS for finding in _looked(look, app)]


def _looked(look: Callable[[App], Iterator[Finding]], app: App) -> Iterator[Finding]:
    name = look.__name__.strip("_").replace("_", " ")
    try:
        yield from look(app)
    except (BackupsError, OSError) as error:
        hint = error.hint if isinstance(error, BackupsError) else ""
        yield Finding(name, "bad", str(error), hint)


def _home(app: App) -> Iterator[Finding]:
    home = app.home
    for path in (home.path, home.keys, *sorted(home.keys.iterdir())):
        public = path.suffix == ".recipient" or path in (
            home.verify_key,
            home.restore_recipient,
        )
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (0o022 if public else 0o077):
            hint = f"chmod go-rwx {path}"
            yield Finding("home", "bad", f"others may reach {path} (mode {mode:o})", hint)
    free = shutil.disk_usage(home.path).free
    state: Literal["good", "warning"] = "good" if free >= LITTLE else "warning"
    yield Finding("home", state, f"{home.path}, {free >> 20} MiB free")


def _settings(app: App) -> Iterator[Finding]:
    settings = load_settings(app.home)
    yield Finding("settings", "good", "can be read")
    if not settings.catalog_store or not settings.catalog_recipients:
        hint = "Set catalog_store and catalog_recipients in settings.yaml."
        yield Finding("settings", "warning", "the catalog itself is not backed up", hint)
    if not settings.notify.dead_man:
        hint = "Set notify: dead_man in settings.yaml."
        words = "nobody notices when `serve` itself is gone"
        yield Finding("settings", "warning", words, hint)


def _catalog(app: App) -> Iterator[Finding]:
    databases = len(app.catalog.policies())
    where = "shared by machines" if app.shared else "a file of this home"
    yield Finding("catalog", "good", f"{where}, {databases} databases declared")


def _queue(app: App) -> Iterator[Finding]:
    if not app.shared:
        return
    with closing(queue_of(app)) as queue:
        states = list(queue.open().values())
    waiting, running = states.count("waiting"), states.count("running")
    yield Finding("queue", "good", f"{waiting} jobs wait, {running} run")


def _keys(app: App) -> Iterator[Finding]:
    home = app.home
    for role, path in (("backup", home.signing_key), ("backup", home.restore_recipient)):
        if not path.exists():
            yield Finding("keys", "warning", f"{path.name} is not here: no role {role}")
    if home.sealed_identity.exists():
        yield Finding("keys", "good", "the restore identity is sealed")
    elif home.restore_identity.exists():
        hint = "Seal it: backups key seal --with KEY."
        yield Finding("keys", "warning", "the restore identity is a plain file", hint)
    else:
        yield Finding("keys", "good", "the restore identity is not here: no role restore")


def _tools(app: App) -> Iterator[Finding]:
    from backups.engines import sandbox
    from backups.engines.postgres.tools import installed

    found = installed()
    versions = ", ".join(tools.version for tools in found)
    engines = {policy.engine for policy in app.catalog.policies()}
    if "postgresql" in engines and not found:
        hint = "Install postgresql-client."
        yield Finding("tools", "bad", "no client tools of PostgreSQL", hint)
    elif found:
        yield Finding("tools", "good", f"PostgreSQL client tools {versions}")
    for tools in found:
        yield from (Finding("tools", "warning", words) for words in tools.warnings())
    for engine, names in {
        "mariadb": ("mariadb-dump", "mariadb"),
        "mysql": ("mysqldump", "mysql"),
    }.items():
        lacking = [name for name in names if not shutil.which(name)]
        if engine in engines and lacking:
            yield Finding("tools", "bad", f"no {', '.join(lacking)}", "Install the client.")
    kind = sandbox.kind()
    words = {
        "namespace": "tools run in a namespace of their own",
        "limits": "tools run with limits, and see this machine's files",
        "none": "nothing keeps tools in",
    }[kind]
    hint = "" if kind == "namespace" else "Install bubblewrap, and allow user namespaces."
    yield Finding("sandbox", "good" if kind == "namespace" else "warning", words, hint)


def _scratch(app: App) -> Iterator[Finding]:
    from verify.scratch.boundary import strongest

    settings = load_settings(app.home).scratch
    if settings.kind == "private":
        boundary = strongest(Path(settings.directory or "/tmp"))  # noqa: S108  # as it is used
        state: Literal["good", "warning"] = "good" if boundary.hides else "warning"
        yield Finding("scratch", state, f"{boundary.kind}: {'; '.join(boundary.words)}")


def _packages(app: App) -> Iterator[Finding]:
    lacking = [
        extra
        for extra, modules in _EXTRAS.items()
        if any(_absent(module) for module in modules)
    ]
    words = f"not installed: {', '.join(lacking)}" if lacking else "all extras are installed"
    needed = {"workers"} if app.shared else set()
    bad = needed & set(lacking)
    hint = f"pip install 'bloomneo-backups[{','.join(sorted(bad))}]'" if bad else ""
    yield Finding("packages", "bad" if bad else "good", words, hint)


def _absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def _clock(app: App) -> Iterator[Finding]:
    newest = next(iter(app.catalog.runs(limit=1)), None)
    if newest is not None and newest.started_at > app.clock.now():
        words = f"a run began in the future, at {newest.started_at:%Y-%m-%d %H:%M:%S} UTC"
        yield Finding("clock", "bad", words, "Synchronise this machine's clock.")
    else:
        yield Finding("clock", "good", "no record is of the future")


def _user(_: App) -> Iterator[Finding]:
    if os.geteuid() == 0:
        hint = "Run as a user of its own: see backups/deploy/README.md."
        yield Finding("user", "warning", "this runs as root", hint)


LOOKS: tuple[Callable[[App], Iterator[Finding]], ...] = (
    _home, _settings, _catalog, _queue, _keys, _tools, _scratch, _packages, _clock, _user,
)  # fmt: skip
