"""Files from the network: looked for locally first, resumed where they broke off, and never trusted unverified."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from lmzoo.corpora.registry import CorpusCard, DataFile
from lmzoo.errors import CorpusError
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.version import __version__

DATA_VARIABLE = "LMZOO_DATA"
"""Environment variable: a folder whose files are used in place of downloads."""
_BLOCK = 1 << 16
_TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""


def local_file(file: DataFile) -> Path | None:
    """Where the file lies on this machine, in LMZOO_DATA or else in the cache; None if nowhere."""
    folders = [Path(os.environ[DATA_VARIABLE]).expanduser()] if os.environ.get(DATA_VARIABLE) else []
    return next((folder / file.name for folder in [*folders, cache_folder()] if (folder / file.name).is_file()), None)


def read_file(card: CorpusCard, file: DataFile) -> bytes:
    """The content of a local file that is what the registry says; CorpusError if it is not, or not there."""
    path = local_file(file)
    if path is None:
        raise CorpusError(
            f"the corpus '{card.name}' is not on this machine: run `lmzoo corpus fetch {card.name}` where there is a "
            f"network, or put {file.name} into a folder named by {DATA_VARIABLE}"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise CorpusError(f"{path} is damaged or another text: its SHA-256 is {found}, not {file.sha256}; remove it")
    return data


def fetch(card: CorpusCard, on_progress: OnProgress | None = None) -> None:
    """Downloads what is not here yet. What a broken download has brought stays as "NAME.part" for the next one."""
    for file in card.files:
        if local_file(file) is None:
            _fetch_file(card, file, on_progress)


def cache_folder() -> Path:
    """Where downloads are kept: the platform's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("lmzoo") / "corpora"


def _fetch_file(card: CorpusCard, file: DataFile, on_progress: OnProgress | None) -> None:
    import requests

    path = cache_folder() / file.name
    part = path.with_name(f"{path.name}.part")
    reasons = []
    for url in file.urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _resume(url, part, file, on_progress)
            break
        except requests.RequestException as error:
            reasons.append(f"{urlsplit(url).hostname}: {_reason(error)}")
        except OSError as error:
            raise CorpusError(f"cannot write {part}: {error.strerror or error}") from error
    else:
        raise CorpusError(
            f"cannot download {file.name} ({'; '.join(reasons)}): run the command again where there is a network, "
            f"or put the file into a folder named by {DATA_VARIABLE}"
        )
    with part.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        part.unlink()
        raise CorpusError(
            f"what came as {file.name} is damaged or another text (SHA-256 {found}, not {file.sha256}) and was "
            f"removed: fetch '{card.name}' again"
        )
    part.replace(path)


def _resume(url: str, part: Path, file: DataFile, on_progress: OnProgress | None) -> None:
    """Appends to `part` what it lacks of the file. Raises requests' errors, and OSError for the disk's."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    if done >= file.size:  # all that there is; its checksum will say whether it is the file
        return
    headers = {"User-Agent": f"lmzoo/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:  # the server starts from the beginning
            done = 0
        with part.open("ab" if done else "wb") as content:
            for block in response.iter_content(_BLOCK):
                done += content.write(block)
                if done > file.size:
                    break
                if on_progress:
                    on_progress(Progress(done, file.size, "B", file.name))
    if done < file.size:
        raise requests.ConnectionError(f"the connection ended after {done:,} of {file.size:,} bytes")


def _reason(error: Exception) -> str:
    """A network error in a few words; the library's own text names sockets and retries."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer"
    return "no connection, or it broke off"
