"""A server in a thread of the test process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
        self._stack = ExitStack()
        self.root = self._stack.enter_context(serving.in_background(self.app))
        self.url = f"{self.root}/v1"

    @property
    def service(self) -> Service:
        return self.app.state.service

    def close(self) -> None:
        self._stack.close()

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.root + path, json=body, timeout=300, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.root + path, timeout=300, **options)


StartServer = Callable[..., RunningServer]
"""The type of the fixture `start_server`, a function with the arguments of `RunningServer`."""


def wait_until(condition: Any) -> None:
    """Waits until a condition is true; fails after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
