"""Zip archives of texts as corpora: members are files of a folder, and what is wrong is told in one line."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from corpora_on_disk import PROSE, json_lines, names, texts, write

from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError


def save(path: Path, members: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_the_same_corpus_as_its_folder(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {f"books/{number:02}.txt": f"text {number}" for number in range(20)}
    members |= {"books/more.jsonl": json_lines("one", "two"), "books/last.txt.gz": gzip.compress(b"packed")}
    for name, content in members.items():
        write(tmp_path / "folder" / name, content)
    path = save(
        tmp_path / "a.zip", members | {"__MACOSX/books/._00.txt": b"\0", "books/.hidden.txt": "no", "b.png": ""}
    )
    archive = load_corpus(path)
    assert archive.fingerprint == load_corpus(tmp_path / "folder").fingerprint
    assert "packed" in texts(archive)
    assert load_corpus(path.rename(tmp_path / "b.data")).fingerprint == archive.fingerprint


def test_a_long_parquet_file_in_an_archive_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", {"a.txt": b"PAR1\x15\0" + b"text" * (1 << 19) + b"PAR1"})
    with pytest.raises(CorpusError, match=r"a\.txt is a Parquet file, not a text file"):
        load_corpus(path)
    assert texts(load_corpus(save(path, {"a.txt": "PAR1 is a text. " * 100})))[0].startswith("PAR1 is")


def test_members_outside_of_the_folder_of_the_archive_are_read_but_not_extracted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", {"../a.txt": "one", "/b.txt": "two", "c.txt": "three"})
    assert sorted(texts(load_corpus(path))) == ["one", "three", "two"]
    assert [file.name for file in tmp_path.rglob("*.txt")] == []


def test_splits_by_the_names_of_members(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.zip",
        {
            "top/train/a.txt": "a", "top/dev.jsonl": json_lines("b"), "top/test.txt": "c",
            "top/README.md": "# Letters\n", "top/LICENSE": "\n  MIT License\n\nCopyright",
        },
    )  # fmt: skip
    corpus = load_corpus(path)
    assert [[document.text for document in split] for split in corpus.splits.values()] == [["a"], ["b"], ["c"]]
    assert (corpus.title, corpus.licence) == ("Letters", "MIT License")


def test_archives_of_a_glob(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        save(tmp_path / f"{split}.zip", {"a.txt": split})
    corpus = load_corpus(f"{tmp_path}/*.zip")
    assert names(corpus.valid) == ["valid.zip/a.txt"]
    assert texts(corpus) == ["train", "valid", "test"]


def test_one_text_is_cut_into_passages(tmp_path: Path) -> None:
    corpus = load_corpus(save(tmp_path / "a.zip", {"book.txt": PROSE}))
    assert "".join(texts(corpus)) == PROSE
    assert corpus.train[0].name == "book.txt:1"


def test_the_field_of_json_members(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", {"a.jsonl": json_lines("a", "b", "c").replace('"text"', '"content"')})
    assert texts(load_corpus(f"{path}:content")) == ["a", "b", "c"]
    with pytest.raises(CorpusError, match=r'a.zip/a.jsonl line 1 has no field "text"; its fields are: content'):
        load_corpus(path)


def test_archives_in_a_folder_are_not_read(tmp_path: Path) -> None:
    """They are often copies of the texts beside them."""
    for number in range(3):
        write(tmp_path / f"{number}.txt", f"text {number}")
    save(tmp_path / "all.zip", {f"{number}.txt": f"text {number}" for number in range(3)})
    assert texts(load_corpus(tmp_path)) == ["text 0", "text 1", "text 2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\0", r"a.zip is damaged: "),
        ({}, r"the archive .*a.zip has no .txt or .jsonl files$"),
        ({"a.png": b"\0"}, r"the archive .*a.zip has no .txt or .jsonl files; it has a.png"),
        ({"a.txt": b"\xff" * 600}, r"a.zip/a.txt is not UTF-8: byte 0xff"),
        ({"a.txt": " "}, r"there is no text in .*a.zip/a.txt"),
    ],
)
def test_wrong_archives_are_named(tmp_path: Path, content: bytes | dict[str, str | bytes], message: str) -> None:
    path = tmp_path / "a.zip"
    save(path, content) if isinstance(content, dict) else path.write_bytes(content)
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_are_named(tmp_path: Path, compression: int) -> None:
    path = save(tmp_path / "a.zip", {"a.txt": PROSE}, compression)
    data = bytearray(path.read_bytes())
    data[48:108] = b"\xff" * 60
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"a.zip is damaged: .*; make the archive again"):
        load_corpus(path)


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", {"a.txt": PROSE})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag of encryption, in the header of the member
    start = data.rindex(b"PK\x01\x02")
    data[start + 8] |= 1  # and in the directory
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"a.zip cannot be read: .*password required.*extract its files"):
        load_corpus(path)


def test_zip_bombs_are_refused_and_the_limit_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.zip", {f"{number}.txt": b"a word " * 100_000 for number in range(3)})
    monkeypatch.setenv("LMZOO_MAX_BYTES", "2099999")
    with pytest.raises(CorpusError, match=r"has 2,100,000 bytes of files, more than the limit.*LMZOO_MAX_BYTES"):
        load_corpus(path)
    monkeypatch.setenv("LMZOO_MAX_BYTES", "2100000")
    assert len(load_corpus(path).train) == 1


def test_a_member_with_more_bytes_than_stated_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", {"a.txt": PROSE})
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 24 : start + 28] = (1000).to_bytes(4, "little")  # the size that the directory states
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"a.zip is damaged: "):
        load_corpus(path)
