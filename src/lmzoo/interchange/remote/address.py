"""The address of a remote model, and the API key that is sent to it.

The key is read from the environment for each request and kept nowhere else. It is sent over an encrypted connection, or
to this machine, and never over an unencrypted connection to another machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Self

from lmzoo.errors import ConfigurationError, RemoteError
from lmzoo.system.printable import printable

KEY_VARIABLES = ("LMZOO_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the API key; the first one that is set counts, also if it is empty."""
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[a-z0-9._~%+-]*)*", re.I
)
_LONGEST = 2000
"""Most characters of an address."""


@dataclass(frozen=True)
class Address:
    """The base URL of a server, such as `http://127.0.0.1:8000/v1`, and the name of one of its models."""

    url: str
    """The base URL, without a slash at its end."""
    model: str | None
    """Name of the model on the server; None if the address does not name one."""
    is_encrypted: bool
    """True if the URL begins with https."""
    is_local: bool
    """True if the server runs on this machine: the host is `localhost` or a loopback address."""

    @property
    def may_take_key(self) -> bool:
        """True if the API key may be sent to this URL."""
        return self.is_encrypted or self.is_local

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses an address of the form URL or URL#MODEL.

        Raises ConfigurationError for any other text. A URL with a user name or a password is refused without showing
        it.
        """
        if "@" in text.partition("#")[0]:
            raise ConfigurationError(
                f"the URL of a remote model must not hold a user name or a password: remove the part before '@', and "
                f"put the API key into the environment variable {KEY_VARIABLES[0]}"
            )
        url, mark, model = text.partition("#")
        match = _URL.fullmatch(url)
        if match is None or int(match["port"] or 0) > 65535 or len(text) > _LONGEST or (mark and not model):
            raise ConfigurationError(
                "the address of a remote model must look like http://127.0.0.1:8000/v1#MODEL (http or https, without "
                f"'?'), got {printable(text[:200], keep='')!r}"
            )
        return cls(url.rstrip("/"), model or None, match["scheme"].lower() == "https", _is_this_machine(match["host"]))


def _is_this_machine(host: str) -> bool:
    """Returns True if a host name or an IP address (IPv6 in brackets) is a loopback address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def api_key() -> str:
    """Returns the API key from the environment; "" if there is none.

    Raises RemoteError, without showing the key, if it holds a character that a header of HTTP cannot hold.
    """
    name = next((name for name in KEY_VARIABLES if name in os.environ), None)
    key = os.environ[name].strip() if name else ""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RemoteError(f"the environment variable {name} does not hold an API key: it must be one word of ASCII")
    return key


def without_key(text: str) -> str:
    """Returns a text received from a server, in which the API key, if it occurs, is replaced by three stars."""
    key = api_key()
    return text.replace(key, "***") if key else text
