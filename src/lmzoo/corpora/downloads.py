"""Downloads of corpus files: local copies are preferred, interrupted downloads resume, and every file is verified."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from lmzoo.corpora.registry import CorpusCard, DataFile
from lmzoo.errors import CorpusError
from lmzoo.system.files import locked, sha256_of, sync, writing
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.version import __version__

DATA_VARIABLE = "LMZOO_DATA"
"""Environment variable: a folder whose files are used instead of downloads."""
_BLOCK = 1 << 16
_TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes of a response."""


def local_file(file: DataFile) -> Path | None:
    """Returns the path of a corpus file on this machine, or None if there is no copy.

    The folder that the environment variable LMZOO_DATA names is searched first, then the folder for downloads.
    """
    named = os.environ.get(DATA_VARIABLE)
    # `Path.expanduser` raises an error for a user who does not exist.
    folders = [Path(os.path.expanduser(named))] if named else []  # noqa: PTH111
    return next((folder / file.name for folder in [*folders, cache_folder()] if (folder / file.name).is_file()), None)


def read_file(card: CorpusCard, file: DataFile) -> bytes:
    """Reads a file of a corpus from this machine, and verifies its SHA-256 checksum.

    Raises CorpusError if the file is missing, or if its checksum differs from the published checksum.
    """
    path = local_file(file)
    if path is None:
        raise CorpusError(
            f"the corpus '{card.name}' is not on this machine: run `lmzoo corpus fetch {card.name}` on a machine with "
            f"network access, or put {file.name} into the folder that the environment variable {DATA_VARIABLE} names"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != file.sha256:
        raise CorpusError(
            f"{path} is damaged or a different file: its SHA-256 is {sha256} instead of {file.sha256}; delete the file "
            f"and run `lmzoo corpus fetch {card.name}`"
        )
    return data


def fetch(card: CorpusCard, on_progress: OnProgress | None = None) -> None:
    """Downloads the files of a corpus that are not on this machine.

    After an interrupted download, the part received so far is kept as "NAME.part", and the next call resumes there.
    """
    for file in card.files:
        if local_file(file) is None:
            path = cache_folder() / file.name
            with locked(path.with_name(f"{path.name}.lock")):
                _fetch_file(card, file, path, on_progress)


def cache_folder() -> Path:
    """Returns the folder for downloaded corpora, in the cache folder of the platform."""
    from platformdirs import user_cache_path

    return user_cache_path("lmzoo") / "corpora"


def _fetch_file(card: CorpusCard, file: DataFile, path: Path, on_progress: OnProgress | None) -> None:
    import requests

    part = path.with_name(f"{path.name}.part")
    reasons = []
    for url in file.urls:
        try:
            _resume(url, part, file, on_progress)
            break
        except requests.RequestException as error:
            reasons.append(f"{urlsplit(url).hostname}: {_reason(error)}")
        except OSError as error:
            raise CorpusError(f"cannot write {part}: {error.strerror or error}") from error
    else:
        raise CorpusError(
            f"cannot download {file.name} ({'; '.join(reasons)}): run the command again on a machine with network "
            f"access, or put the file into the folder that the environment variable {DATA_VARIABLE} names"
        )
    sha256 = sha256_of(part)
    if sha256 != file.sha256:
        part.unlink()
        raise CorpusError(
            f"the download of {file.name} is damaged or a different file (its SHA-256 is {sha256} instead of "
            f"{file.sha256}) and was deleted: run `lmzoo corpus fetch {card.name}` again"
        )
    with writing(path):
        sync(part)
        part.replace(path)
        sync(path.parent)


def _resume(url: str, part: Path, file: DataFile, on_progress: OnProgress | None) -> None:
    """Downloads the part of a file that is still missing, and appends it to the partial file `part`.

    Raises requests.RequestException for network errors, and OSError for errors of the file system.
    """
    import requests

    done = part.stat().st_size if part.exists() else 0
    if done >= file.size:  # the download is complete, and the caller verifies its checksum
        return
    headers = {"User-Agent": f"lmzoo/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:  # the server sends the whole file
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
    """Returns a short description of a network error, without the technical details in the messages of `requests`."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer"
    return "no connection, or the connection was interrupted"
