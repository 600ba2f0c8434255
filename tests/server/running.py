"""A server in a thread of the test process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from lmzoo import Predictor
from lmzoo.server import serving
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.service import Service


class RunningServer:
    """A server on a free port of this machine."""

    def __init__(self, models: Mapping[str, Predictor | Path], **options: Any) -> None:
        self.app = create_app(ServedModels(models), **{"api_key": "", **options})
        self._socket = serving.open_socket("127.0.0.1", 0)
        self.root = serving.address_of(self._socket)
        self.url = f"{self.root}/v1"
        self._server = serving.create_server(self.app)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    @property
    def service(self) -> Service:
        return self.app.state.service

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.root + path, json=body, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.root + path, timeout=60, **options)


def wait_until(condition: Any) -> None:
    """Waits until a condition is true; fails after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
