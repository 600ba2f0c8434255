"""Runs a web application on a port of this machine, until a signal ends it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Thread
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from lmzoo.errors import LmzooError

_SECONDS_TO_FINISH = 2
"""Time that open connections have to end after a signal; then they are closed."""


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to a host and a port; port 0 = any free one.

    Raises LmzooError if the port is in use, or the host is not this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LmzooError(f"cannot serve on host '{host}': {error.strerror or error}") from error
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # not on Windows, where this option would share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(2048)  # clients that come before the server runs wait
    except OSError as error:
        opened.close()
        raise LmzooError(
            f"cannot use port {port} of {host} ({error.strerror or error}): choose another one with --port"
        ) from error
    return opened


def is_local(host: str) -> bool:
    """Returns True if a server on this host can be reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(opened: socket.socket) -> str:
    """Returns the URL at which this machine reaches the server on a socket."""
    host, port = opened.getsockname()[:2]
    if ip_address(host).is_unspecified:  # not every browser opens 0.0.0.0
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def address_for_others(host: str, address: str) -> str | None:
    """Returns the URL at which other computers reach a server that listens on all addresses of this machine, else None.

    `host` is what the server listens on, and `address` its URL on this machine.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            if not ip_address(host).is_unspecified:
                return None
            probe.connect(("192.0.2.1", 9))  # sends nothing, but chooses the address of this machine in the network
        except (OSError, ValueError):  # no network, or a name
            return None
        return f"http://{probe.getsockname()[0]}:{urlsplit(address).port}"


class AppServer(uvicorn.Server):
    """The HTTP server of an application; its method `run` takes the sockets to listen on.

    SIGINT and SIGTERM end it: open streams get an error as their last event, and other open requests have two seconds.
    Afterwards the signal has its usual effect.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=_SECONDS_TO_FINISH,
                server_header=False,
            )
        )
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.service.is_ending = True
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """Ends the server as a signal does; it may be called from any thread."""
        self._app.state.service.is_ending = True
        self.should_exit = True


@contextmanager
def in_background(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves an application in a thread within a `with` block, and yields the URL.

    `app` is the application, and `host` and `port` are its address; port 0 = any free one.
    """
    opened, server = open_socket(host, port), AppServer(app)
    thread = Thread(target=server.run, kwargs={"sockets": [opened]}, name="lmzoo server")
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.005)
        yield address_of(opened)
    finally:
        server.end()
        thread.join()
        opened.close()
