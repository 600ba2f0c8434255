"""Corpora from a user's own files: documents, splits, compressed files, and every kind of wrong file."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpora_on_disk import PROSE, json_lines, names, texts, toy, write

from lmzoo.corpora import (
    Size,
    load_corpus,
    load_text,
)
from lmzoo.corpora.text_files import read_text
from lmzoo.errors import ConfigurationError, CorpusError, MissingExtraError, UnknownNameError, UsageError

zstandard = pytest.importorskip("zstandard")

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
}


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
    with pytest.raises(CorpusError, match=r"has a train and a test split but no valid split .*: add valid.txt"):
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
        (
            '{"text": "a", "b": ' + "[" * 100_000 + "]" * 100_000 + "}",
            r'in "text", but its lists and objects are nested too',
        ),
        ('{"text": "a", "b": ' + "9" * 5_000 + "}", r'in "text", but it has a number with too many digits'),
        (r'{"text": "a\ud800"}', r'line 2: "text" has half of a surrogate pair at character 1'),
    ],
)
def test_wrong_json_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", json_lines("fine") + line + "\n")
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files(tmp_path: Path, suffix: str) -> None:
    lines = json_lines(*(f"text {number}" for number in range(12))).encode()
    half = len(lines) // 2
    plain = load_corpus(write(tmp_path / "a.jsonl", lines))
    pack = PACK[suffix]
    write(tmp_path / "packed" / f"a.jsonl.{suffix}", pack(lines[:half]) + bytes(8) + pack(lines[half:]))
    assert texts(load_corpus(tmp_path / "packed")) == texts(plain)


@pytest.mark.parametrize("suffix", PACK)
def test_the_content_and_not_the_name_tells_the_compression(tmp_path: Path, suffix: str) -> None:
    for name in ("a.txt", "a.txt.gz", "a.txt.bz2", "book"):
        assert "".join(texts(load_corpus(write(tmp_path / name, PACK[suffix](PROSE.encode()))))) == PROSE
    assert "".join(texts(load_corpus(write(tmp_path / f"plain.txt.{suffix}", PROSE)))) == PROSE
    twice = write(tmp_path / "twice.txt.gz", gzip.compress(PACK[suffix](PROSE.encode())))
    with pytest.raises(CorpusError, match=r"twice.txt.gz is compressed twice, not a text file"):
        load_corpus(twice)


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_standard_input(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PACK[suffix](json_lines("one", "two", "three").encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert texts(load_corpus("-")) == ["one", "two", "three"]


def test_a_long_zstandard_window_is_read_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = write(tmp_path / "a.jsonl.zst", compressor.compress(json_lines(*"abcd").encode()) + compressor.flush())
    assert texts(load_corpus(path)) == list("abcd")
    monkeypatch.setenv("LMZOO_MAX_BYTES", "1000000")
    with pytest.raises(
        CorpusError, match=r"needs more memory to decompress than the limit of .*LMZOO_MAX_BYTES"
    ) as told:
        load_corpus(path)
    assert "damaged" not in str(told.value)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-5], lambda data: data[:40] + b"#" * 8 + data[48:], lambda data: data + b"more"]
)
def test_damaged_packed_files(tmp_path: Path, suffix: str, damage: Any) -> None:
    data, pack = PROSE.encode(), PACK[suffix]
    with pytest.raises(CorpusError, match=rf"a.txt.{suffix} is damaged: .*; compress the original file again"):
        load_corpus(write(tmp_path / f"a.txt.{suffix}", damage(pack(data))))


@pytest.mark.parametrize("suffix", PACK)
def test_zip_bombs_are_refused_and_the_limit_moves(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"bomb.txt.{suffix}", PACK[suffix](b"a word " * 100_000))
    monkeypatch.setenv("LMZOO_MAX_BYTES", "699999")
    with pytest.raises(CorpusError, match=r"has more than 699,999 bytes of text.*LMZOO_MAX_BYTES"):
        load_corpus(path)
    monkeypatch.setenv("LMZOO_MAX_BYTES", "700000")
    assert len("".join(texts(load_corpus(path)))) == 700_000
    monkeypatch.setenv("LMZOO_MAX_BYTES", "1e9")
    with pytest.raises(ConfigurationError, match=r"LMZOO_MAX_BYTES must be .* bytes below 10\^18, got '1e9'"):
        load_corpus(path)


def test_the_limit_has_a_default_and_few_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", PROSE)
    monkeypatch.setenv("LMZOO_MAX_BYTES", "")
    assert read_text(path) == PROSE
    monkeypatch.setenv("LMZOO_MAX_BYTES", "9" * 18)
    assert read_text(path) == PROSE
    monkeypatch.setenv("LMZOO_MAX_BYTES", "9" * 5000)
    with pytest.raises(ConfigurationError, match=r"bytes below 10\^18, got '9+\.\.\.9+'$"):
        read_text(path)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads .zst by itself")
def test_zst_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lmzoo\[data\]'"):
        load_corpus(write(tmp_path / "a.txt.zst", b"\x28\xb5\x2f\xfd"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROSE.encode()), encoding="ascii"))
    corpus = load_corpus("-")
    assert "".join(texts(corpus)) == PROSE
    assert corpus.train[0].name == "stdin:1"


@pytest.mark.parametrize("other", ["-", "kjv"])
def test_only_files_can_be_combined(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path / "a.txt", PROSE)
    for load in (load_corpus, load_text):
        with pytest.raises(UsageError, match=f"{other}.* cannot be combined with other texts: give it alone"):
            load([str(text), other])
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "kjv", PROSE)
    assert len(load_text([str(text), "kjv"]).documents) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\n\xe9t\xe9", r"is not UTF-8: byte 0xe9 at offset 4 \(line 2\)"),
        (codecs.BOM_UTF8 + b"abc\xff", r"byte 0xff at offset 6 \(line 1\)"),
        (b"abc\xe6\x97", r"byte 0xe6 at offset 3"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"is not a text file: it has a NUL byte at offset 8"),
        ("text".encode("utf-16"), r"is encoded as UTF-16: save it as UTF-8"),
        ("text".encode("utf-32"), r"is encoded as UTF-32: save it as UTF-8"),
        (codecs.BOM_UTF32_BE + "text".encode("utf-32-be"), r"is encoded as UTF-32: save it as UTF-8"),
        ("a text\n".encode("utf-16-le"), r"is encoded as UTF-16 without a byte-order mark: save it as UTF-8"),
        ("a text\n".encode("utf-16-be"), r"is encoded as UTF-16 without a byte-order mark: save it as UTF-8"),
        ("ein täxt".encode("utf-32-le"), r"is encoded as UTF-32 without a byte-order mark: save it as UTF-8"),
        (b"text\n\0foo\n", r"is not a text file: it has a NUL byte at offset 5"),
        ("\0".join(["déjà", "vu", "encore"]).encode(), r"is not a text file: it has a NUL byte at offset 6"),
        ("は 3 を".encode("utf-16-le"), r"is encoded as UTF-16 without a byte-order mark"),
        (b"PK\x03\x04\x14\0", r"is damaged: File is not a zip file; make the archive again"),
        (rb"{\rtf1\ansi text}", r"is an RTF file, not a text file: extract its text first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", r"is a file of Word, .*: save it as plain text"),
        (b"", r"there is no text in"),
        (b" \n\n ", r"there is no text in"),
        (
            b"A short line.",
            r"has too little text: give at least 500 characters, not 13",
        ),
    ],
)
def test_what_is_not_enough_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def office_file(path: Path, first: str) -> Path:
    """Writes a zip archive like that of a document, whose first file is `first`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(first, "kind")
        archive.writestr("word/document.xml", "<w:t>text</w:t>")
        archive.writestr("notes.txt", "a text " * 100)
    return path


@pytest.mark.parametrize("first", ["[Content_Types].xml", "mimetype"])
def test_office_files_are_refused_as_such(tmp_path: Path, first: str) -> None:
    path = office_file(tmp_path / "a.docx", first)
    for read in (load_corpus, read_text):
        with pytest.raises(CorpusError, match=r"a\.docx is a file of Word, .* plain text, or a table as CSV"):
            read(path)


@pytest.mark.parametrize("name", ["a.txt", "notes/mimetype-list.txt", "mimetypes", "old[Content_Types].xml"])
def test_archives_that_only_mention_the_files_of_office_are_archives(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "the mimetype and [Content_Types].xml of a file " * 20)
    with pytest.raises(CorpusError, match=r"a\.zip is a zip archive, not a text file"):
        read_text(tmp_path / "a.zip")


def test_an_office_file_may_have_its_marks_in_the_middle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("docProps/app.xml", "<Properties/>")
        archive.writestr("[Content_Types].xml", "<Types/>")
    with pytest.raises(CorpusError, match=r"a\.xlsx is a file of Word"):
        read_text(tmp_path / "a.xlsx")


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
    with pytest.raises(
        CorpusError, match=r"has no .txt or .jsonl \(also as .gz, .zst, .xz, .bz2\), .parquet or .arrow files$"
    ):
        load_corpus(tmp_path)
    with pytest.raises(CorpusError, match="no file was given"):
        load_corpus([])
    with pytest.raises(UsageError, match="the corpus 'kjv' cannot be combined with other texts"):
        load_corpus(["kjv", "brown"])
    with pytest.raises(UnknownNameError):
        load_corpus("x" * 5000)


def test_too_few_documents(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has 1 non-empty document, but a corpus needs at least three: add documents"):
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


def test_two_fields_of_one_file_are_both_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "qa.jsonl", '{"question": "why?", "answer": "so"}\n{"question": "when?", "answer": "now"}\n'
    )
    corpus = load_corpus([f"{path}:question", f"{path}:answer", f"{path}:answer"])
    assert texts(corpus) == ["why?", "when?", "so", "now"]


def test_a_table_in_plain_text_is_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "reviews.csv", "label,text\n1,some text\n" * 50)
    with pytest.raises(CorpusError, match=r"reviews.csv: columns of .csv and .tsv files are not read: save the table"):
        load_corpus(f"{path}:review")
    with caplog.at_level("INFO"):
        assert "".join(texts(load_corpus(path))).startswith("label,text")
    assert ".csv and .tsv files are read as plain text, not as tables: save the table as JSON lines" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_pattern_that_matches_a_link_to_itself_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(CorpusError, match=r"cannot read .*loop.txt: Too many levels of symbolic links"):
        load_corpus(str(tmp_path / "*.txt"))
