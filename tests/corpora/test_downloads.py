"""The registry of corpora, and downloads from a local web server."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from corpora_on_disk import card_of, make_data_folder, write

from lmzoo.corpora import (
    CorpusCard,
    downloads,
    fetch_corpus,
    is_available,
    list_corpora,
    load_corpus,
)
from lmzoo.corpora.corpus_card import DataFile
from lmzoo.errors import CorpusError, LmzooError, UnknownNameError, UsageError
from lmzoo.system.files import locked

# ---- The registry -----------------------------------------------------------------------------------


def test_every_entry_of_the_registry_is_complete() -> None:
    cards = list_corpora()
    assert {"kjv", "brown", "tinyshakespeare", "ptb", "wikitext-2", "wikitext-103", "text8", "enwik8"} <= {
        card.name for card in cards
    }
    for card in cards:
        assert card.title
        assert card.licence
        assert card.citation
        assert card.provider in ("embedded", "nltk", "url", "generated")
        assert "default" in card.protocols or card.provider == "generated", "sources go by name: source:copy"
        for protocol in card.protocols.values():
            assert callable(protocol.resolve())
            assert "\n" not in protocol.rule
        for file in card.files:
            assert file.size > 0
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            if card.provider == "url":
                assert file.sha256  # nothing from the network is trusted unverified
                assert all(url.startswith(("https://", "http://")) for url in file.urls)
                assert file.urls
    every_file = [file.name for card in cards for file in card.files]
    assert len(set(every_file)) == len(every_file)  # they share one cache folder


def test_the_data_folder_of_a_user_who_does_not_exist_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMZOO_DATA", "~no-such-user/data")
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path)
    assert downloads.local_file(DataFile("a.txt", 1)) is None


def test_wrong_names_get_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'kjv'"):
        load_corpus("kjw")
    with pytest.raises(UnknownNameError, match="did you mean 'bengio2003'"):
        load_corpus("brown:bengio")
    with pytest.raises(UnknownNameError, match="did you mean 'wikitext-2'"):
        fetch_corpus("wikitext2")
    with pytest.raises(UnknownNameError, match="corpus or file ''"):
        load_corpus("")


def test_the_default_protocol_has_two_names() -> None:
    assert load_corpus("kjv:default").name == load_corpus(["kjv"]).name == "kjv"


# ---- Downloads --------------------------------------------------------------------------------------


class Server:
    """A local web server that can interrupt responses and ignore ranges, and that records the requested ranges."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.break_after: int | None = None
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.asked.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and outer.ranges else 0
                body = outer.content[start:]
                self.send_response(outer.status if outer.status != 200 else 206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body if outer.break_after is None else body[: outer.break_after])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/toy.txt"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


CONTENT = b"To be, or not to be, that is the question.\n" * 10_000


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_data_folder(tmp_path, monkeypatch)


@pytest.fixture
def server(data_folder: Path) -> Iterator[Server]:
    server = Server(CONTENT)
    yield server
    server.close()


def remote(server: Server, data_folder: Path, *urls: str) -> CorpusCard:
    """Returns the card of a corpus whose file is on the server, but not on this machine."""
    card = card_of(data_folder, "toy", {"toy.txt": CONTENT}, *(urls or (server.url,)))
    (data_folder / "toy.txt").unlink()
    return card


def cached() -> list[str]:
    return sorted(path.name for path in downloads.cache_folder().glob("*"))


def test_download_is_kept_and_not_repeated(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    seen = []
    downloads.fetch(card, seen.append)
    assert cached() == ["toy.txt"]
    assert downloads.read_file(card, card.files[0]) == CONTENT
    assert (seen[-1].done, seen[-1].total) == (len(CONTENT), len(CONTENT))
    downloads.fetch(card)
    assert server.asked == [None]


def test_broken_download_is_resumed(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    server.break_after = 100_000
    with pytest.raises(CorpusError, match=r"cannot download toy.txt") as raised:
        downloads.fetch(card)
    assert "\n" not in str(raised.value)
    assert cached() == ["toy.txt.part"]
    assert not is_available(card)
    server.break_after = None
    downloads.fetch(card)
    assert server.asked[0] is None
    assert server.asked[1] is not None
    assert 0 < int(server.asked[1].removeprefix("bytes=").rstrip("-")) <= 100_000
    assert cached() == ["toy.txt"]
    assert downloads.read_file(card, card.files[0]) == CONTENT


def test_two_downloads_of_one_file(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    message = r"another process holds .*toy.txt.lock: wait until it ends"
    with locked(downloads.cache_folder() / "toy.txt.lock"), pytest.raises(UsageError, match=message):
        downloads.fetch(card)
    assert not server.asked
    downloads.fetch(card)
    assert cached() == ["toy.txt"]


def test_leftover_that_is_too_long_is_replaced(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    write(downloads.cache_folder() / "toy.txt.part", CONTENT + b"more")
    with pytest.raises(CorpusError, match=r"was deleted: run `lmzoo corpus fetch toy` again"):
        downloads.fetch(card)
    downloads.fetch(card)
    assert cached() == ["toy.txt"]


def test_server_that_ignores_ranges_is_read_from_the_start(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    server.break_after, server.ranges = 100_000, False
    with pytest.raises(CorpusError):
        downloads.fetch(card)
    server.break_after = None
    downloads.fetch(card)
    assert downloads.read_file(card, card.files[0]) == CONTENT


@pytest.mark.parametrize("wrong", [b"x" * len(CONTENT), CONTENT + b"more"], ids=["other", "longer"])
def test_what_is_not_the_file_is_refused_and_removed(server: Server, data_folder: Path, wrong: bytes) -> None:
    card = remote(server, data_folder)
    server.content = wrong
    with pytest.raises(CorpusError, match=r"damaged or a different file \(its SHA-256 is [0-9a-f]{64} instead of"):
        downloads.fetch(card)
    assert cached() == []
    server.content = CONTENT
    downloads.fetch(card)
    assert cached() == ["toy.txt"]


def test_mirrors_are_tried_in_turn(server: Server, data_folder: Path) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    nobody = f"http://127.0.0.1:{closed.server_port}/toy.txt"
    closed.server_close()
    downloads.fetch(remote(server, data_folder, nobody, server.url))
    assert cached() == ["toy.txt"]


def test_no_network_leaves_nothing_behind(server: Server, data_folder: Path) -> None:
    server.status = 404
    with pytest.raises(CorpusError, match=r"\(127.0.0.1: HTTP 404\): run the command again.*LMZOO_DATA"):
        downloads.fetch(remote(server, data_folder))
    assert cached() == []


def test_folder_that_cannot_be_written_is_one_line(
    server: Server, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_folder / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(downloads, "cache_folder", lambda: data_folder / "file" / "below")
    with pytest.raises(LmzooError, match="cannot write"):
        downloads.fetch(remote(server, data_folder))
