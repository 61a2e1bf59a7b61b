"""The HTTP API, put together. No identity is read here: what is asked for is entered into the
catalog, and done by `serve`."""

from __future__ import annotations

import hashlib
import hmac
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from backups.errors import ConfigError
from backups.settings import load_settings
from backups.wiring.app import App

DRAIN_SECONDS = 5
"""What a call gets to end in when the server is stopped; pages that follow an operation keep
theirs open for longer, and connect anew."""

if TYPE_CHECKING:
    from backups.api.calls import House


def house(app: App) -> House:
    """What the API's routes work with. Raises ConfigError."""
    from backups.fleet import resolve_password

    try:
        from backups.api.calls import House
        from backups.api.limits import Limits
        from backups.api.tokens import Tokens
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the API needs the package {error.name}",
            hint="Install it with: pip install 'bloomneo-backups[api]'",
        ) from None
    settings = load_settings(app.home).api
    return House(
        app=app,
        tokens=Tokens(settings, resolve_password, app.clock.now),
        limits=Limits(settings.per_minute, app.clock.monotonic),
        session_key=session_key(app),
        session_minutes=settings.session_minutes,
    )


@contextmanager
def api_beside(home: str, host: str, port: int) -> Iterator[None]:
    """The API in a process of its own, until the block ends; one that dies is started anew."""
    context = get_context("forkserver")
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            process = context.Process(target=_serve_api, args=(home, host, port), name="api")
            process.start()
            while process.is_alive() and not over.wait(0.5):
                pass
            if over.is_set():
                process.terminate()
            process.join()
            over.wait(1)

    keeper = threading.Thread(target=keep, name="api")
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _serve_api(home: str, host: str, port: int) -> None:
    from backups.wiring.app import opened

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's goes to all; we are told
    with opened(home, roles=["api"]) as app:
        run_api(app, host, port)


def run_api(app: App, host: str, port: int) -> None:
    """Answer calls until a signal ends it. Raises ConfigError."""
    ready = house(app)
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise ConfigError(
            "the API needs the package uvicorn",
            hint="Install it with: pip install 'bloomneo-backups[api]'",
        ) from None
    from backups.api.app import create

    uvicorn.run(
        create(ready),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def session_key(app: App) -> bytes:
    """Signs links and sessions; of this home alone, and good for nothing else."""
    from backups import keys

    secret = keys.load_enrolment_key(app.home, app.entropy)
    return hmac.digest(secret, b"backups api sessions", hashlib.sha256)
