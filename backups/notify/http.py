"""One HTTP request to a receiver that may be slow, wrong or hostile.

urllib3, which the S3 SDK brings along anyway: no redirect is followed, nothing is retried, no
body is read, no proxy of the environment is used, and the whole of it has one limit of time,
so that a receiver that answers a byte a minute holds nobody up.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3 import exceptions
from urllib3.util import Timeout, parse_url

from backups import __version__
from providers.guard import guarded_pools
from providers.network import Network

LIMIT = 15.0
"""Seconds for all of it; the Standard Webhooks specification advises 15 to 30."""
CONNECT = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered."""

    status: int
    retry_after: str = ""


def request(
    method: str,
    url: str,
    network: Network,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    limit: float = LIMIT,
) -> Reply | str:
    """The answer, or in words, without the URL, why there is none.

    Raises StoreDenied when the address is one that `network` refuses."""
    line = _Line()
    timer = threading.Timer(limit, line.cut)
    timer.daemon = True
    timer.start()
    try:
        with _pool(url, network, line, limit) as pool:
            response = pool.urlopen(
                method,
                parse_url(url).request_uri,
                body=body,
                headers={
                    "user-agent": f"bloomneo-backups/{__version__}",
                    "connection": "close",
                    **(headers or {}),
                },
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            response.close()
            return Reply(response.status, response.headers.get("retry-after", ""))
    except (exceptions.HTTPError, OSError) as error:
        return _in_words(error, late=line.was_cut)
    finally:
        timer.cancel()
        line.close()


class _Line:
    """A second handle on a connection's socket, through which it can be cut from outside,
    whatever layer waits on it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.was_cut = False

    def hold(self, connected: socket.socket) -> None:
        """Raises TimeoutError when it is too late already."""
        with self._lock:
            if self.was_cut:
                raise TimeoutError
            self._socket = connected.dup()

    def cut(self) -> None:
        """Whoever waits on it is told that it ended."""
        with self._lock:
            self.was_cut = True
            if self._socket is not None:
                with suppress(OSError):  # it has ended by itself
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the handle."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _pool(url: str, network: Network, line: _Line, limit: float) -> urllib3.HTTPConnectionPool:
    parts = parse_url(url)
    guarded = guarded_pools(network)[parts.scheme or ""]

    connect: Any = guarded.ConnectionCls

    def _new_conn(self: Any) -> socket.socket:
        connected: socket.socket = connect._new_conn(self)
        line.hold(connected)
        return connected

    kept = type("KeptConnection", (connect,), {"_new_conn": _new_conn})
    pool = type("KeptPool", (guarded,), {"ConnectionCls": kept})
    made: urllib3.HTTPConnectionPool = pool(
        parts.host, parts.port, timeout=Timeout(connect=min(CONNECT, limit), read=limit)
    )
    return made


def _in_words(error: Exception, *, late: bool) -> str:
    # Not the error's own text, which may hold the URL, and with it a token.
    if late or isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, exceptions.NameResolutionError):
        return "its name can't be resolved"
    if isinstance(error, exceptions.NewConnectionError):
        return "it can't be connected to"
    if isinstance(error, exceptions.SSLError):
        return "its certificate, or TLS itself, failed"
    return "the connection broke"
