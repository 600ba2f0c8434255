"""Long texts: documents in a temporary file are those that are otherwise in memory, with less memory."""

from __future__ import annotations

import copy
import errno
import gzip
import json
import pickle
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from corpora_on_disk import PROSE, json_lines, names, texts, write
from hypothesis import given
from hypothesis import strategies as st

from lmzoo import Predictor
from lmzoo.corpora import Document, load_corpus, load_text, near_duplicates, splitting, stored, text_files
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.corpora.json_texts import are_json_lines
from lmzoo.corpora.json_texts import json_lines as documents_of_lines
from lmzoo.corpora.splitting import passages, passages_of_blocks
from lmzoo.corpora.stored import StoredDocuments
from lmzoo.errors import CorpusError, LmzooError
from lmzoo.system import growing
from lmzoo.system.progress import Progress

POEMS = [f"Poem {n}.\r\nÜber {'die ' * (n % 9)}Brücke, naïve 🎉 <unk>\n" * (1 + n % 5) for n in range(60)]
SHORT = [f"a line of {n % 7} words" for n in range(40)]


def write_text(folder: Path) -> Path:
    return write(folder / "book.txt", "\ufeff" + PROSE[:60_000].replace("\n", "\r\n") + "Ende: größer 🎉" * 50)


def write_json_lines(folder: Path) -> Path:
    return write(folder / "a.jsonl", json_lines(*POEMS, *SHORT, "", *SHORT) + "\n\n" + json_lines("last"))


def write_packed_lines(folder: Path) -> Path:
    return write(folder / "a.json.gz", gzip.compress(json_lines(*POEMS).encode()))


def write_array(folder: Path) -> Path:
    return write(folder / "a.json", json.dumps([{"text": text} for text in POEMS], indent=1))


def write_folder(folder: Path) -> Path:
    for number, poem in enumerate(POEMS):
        write(folder / "poems" / f"{number:02}.txt", poem)
    write(folder / "poems" / "more.jsonl", json_lines(*POEMS))
    return folder / "poems"


def write_splits(folder: Path) -> Path:
    for split in ("train", "valid", "test"):
        write(folder / "splits" / f"{split}.jsonl", json_lines(*SHORT, *POEMS, split))
    return folder / "splits"


WRITERS = [write_text, write_json_lines, write_packed_lines, write_array, write_folder, write_splits]
by_source = pytest.mark.parametrize("source", WRITERS, ids=lambda source: source.__name__.removeprefix("write_"))


@pytest.fixture
def everything_is_long(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call texts of a few thousand characters are read and kept like very long ones."""

    def shrink() -> None:
        monkeypatch.setattr(text_files, "_BLOCK", 997)
        monkeypatch.setattr(stored, "MEMORY_CHARACTERS", 300)
        monkeypatch.setattr(stored, "_BLOCK", 400)
        monkeypatch.setattr(growing, "MEMORY_BYTES", 256)

    return shrink


@by_source
def test_a_long_text_is_the_corpus_that_it_is_in_memory(
    source: Callable[[Path], Path], tmp_path: Path, everything_is_long: Callable[[], None]
) -> None:
    path = source(tmp_path)
    expected, whole = load_corpus(path), load_text(path)
    everything_is_long()
    found, found_whole = load_corpus(path), load_text(path)
    assert isinstance(expected.train, list)
    assert isinstance(found.train, StoredDocuments)
    for name, documents in expected.splits.items():
        assert list(found.splits[name]) == documents
        assert [found.splits[name][index] for index in range(-1, len(documents))] == [documents[-1], *documents]
        assert list(found.splits[name][1:-1]) == documents[1:-1]
    assert (found.protocol, found.fingerprint) == (expected.protocol, expected.fingerprint)
    assert list(found_whole.documents) == whole.documents
    assert found_whole.divided().fingerprint == whole.divided().fingerprint
    assert near_duplicates(found) == near_duplicates(expected)


@by_source
@pytest.mark.parametrize("spec", ["word:2", "bpe:300", "char"])
def test_a_long_text_has_the_ids_that_it_has_in_memory(
    source: Callable[[Path], Path], spec: str, tmp_path: Path, everything_is_long: Callable[[], None]
) -> None:
    path = source(tmp_path)
    seen: list[Progress] = []
    expected = encode_corpus(load_corpus(path), spec)
    everything_is_long()
    found = encode_corpus(load_corpus(path), spec, seen.append)
    expected.save(tmp_path / "expected")
    found.save(tmp_path / "found")
    for file in (tmp_path / "expected").iterdir():
        assert (tmp_path / "found" / file.name).read_bytes() == file.read_bytes()
    assert EncodedCorpus.load(tmp_path / "found").fingerprint == expected.fingerprint
    assert seen[-1].done == seen[-1].total == sum(map(len, texts(load_corpus(path))))


@pytest.mark.parametrize(("species", "settings"), [("unigram", {}), ("ngram", {"order": 3, "memory": "1K"})])
def test_a_model_of_a_long_text_is_the_model_of_the_text_in_memory(
    species: str, settings: dict[str, int | str], tmp_path: Path, everything_is_long: Callable[[], None]
) -> None:
    path = write_json_lines(tmp_path)
    Predictor.fit(species, path, tokenizer="bpe:300", **settings).save(tmp_path / "expected")
    everything_is_long()
    Predictor.fit(species, path, tokenizer="bpe:300", **settings).save(tmp_path / "found")
    for name in ("arrays.safetensors", "tokenizer.json", "training_sample.safetensors"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_a_selection_of_a_selection(everything_is_long: Callable[[], None]) -> None:
    everything_is_long()
    documents = [Document(f"{n}\udce9", "é" * n) for n in range(1, 60)]
    found = stored.stored(iter(documents))
    assert list(splitting.every_tenth(found[5:]).valid) == splitting.every_tenth(documents[5:]).valid
    assert stored.count_characters(found[3:7]) == 4 + 5 + 6 + 7
    with pytest.raises(IndexError):
        found[59]
    assert len(pickle.dumps(found[1:3])) < 400
    assert list(copy.copy(found[1:50])) == documents[1:50]  # made from what is pickled


def test_long_texts_need_little_memory(tmp_path: Path, everything_is_long: Callable[[], None]) -> None:
    path = write(tmp_path / "a.txt", PROSE * 40)
    everything_is_long()
    load_corpus(write_text(tmp_path))  # modules are loaded before the measurement
    tracemalloc.start()
    try:
        corpus = load_corpus(path)
        assert sum(len(document.text) for document in corpus.train) > 0.75 * 40 * len(PROSE)
        assert tracemalloc.get_traced_memory()[1] < 0.3 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_dividing_many_documents_needs_no_memory_for_each(
    monkeypatch: pytest.MonkeyPatch, everything_is_long: Callable[[], None]
) -> None:
    everything_is_long()
    monkeypatch.setattr("lmzoo.mapped._BLOCK", 1000)
    n = 100_000
    documents = stored.stored(Document("", "abcd") for _ in range(n))
    tracemalloc.start()
    try:
        splits = splitting.every_tenth(documents)
        sizes = [(len(split), stored.count_characters(split)) for split in splits]
        assert tracemalloc.get_traced_memory()[1] < n
    finally:
        tracemalloc.stop()
    assert sizes == [(80_000, 320_000), (10_000, 40_000), (10_000, 40_000)]


def test_reading_reports_the_bytes_of_all_files(tmp_path: Path) -> None:
    seen: list[Progress] = []
    paths = [write_packed_lines(tmp_path), write_json_lines(tmp_path)]
    load_corpus(paths, seen.append)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].done == seen[-1].total == sum(path.stat().st_size for path in paths)


def test_the_total_is_unknown_if_the_size_of_a_file_is_unknown(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", json_lines(*SHORT))
    seen: list[Progress] = []
    path = write_json_lines(tmp_path / "files")
    load_corpus([tmp_path / "a.zip", path], seen.append)
    assert (seen[-1].done, seen[-1].total) == (path.stat().st_size, None)


def test_dividing_a_text_of_several_files_reports_the_second_reading(tmp_path: Path) -> None:
    seen: list[Progress] = []
    text = load_text(write_folder(tmp_path), seen.append)
    first = list(seen)
    text.divided()
    assert seen == first * 2


def test_a_temporary_file_has_no_name_that_could_be_left(
    tmp_path: Path, everything_is_long: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(*POEMS) + "{}\n")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    everything_is_long()
    with pytest.raises(CorpusError, match="line 61 has no field"):
        load_corpus(path)
    assert not list((tmp_path / "tmp").iterdir())


def test_a_full_disk_is_an_error_of_one_line(
    tmp_path: Path, everything_is_long: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_json_lines(tmp_path)
    everything_is_long()
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(LmzooError, match=r"cannot write a long text to .*No space left on device; .*TMPDIR"):
        load_corpus(path)


# ---- Passages and lines of a text in blocks ---------------------------------------------------------


def cut(text: str) -> list[str]:
    """Cuts a text that is in memory as a whole, by the rule in the docstring of `passages`."""
    least = max(splitting._LEAST_PASSAGE, min(splitting.PASSAGE_CHARACTERS, len(text) // 20))
    found = []
    while text:
        ends = [text.find(mark, least, 2 * least) + len(mark) for mark in ("\n\n", "\n", " ") if
                text.find(mark, least, 2 * least) >= 0]  # fmt: skip
        end = ends[0] if ends else 2 * least
        end = len(text) if len(text) - end < least // 2 else end
        found.append(text[:end])
        text = text[end:]
    return found


@given(st.text(st.sampled_from("ab \n"), max_size=400), st.integers(1, 90))
def test_passages_do_not_depend_on_the_blocks(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "PASSAGE_CHARACTERS", 7)
        patch.setattr(splitting, "_LEAST_PASSAGE", 3)
        blocks = [text[start : start + size] for start in range(0, len(text), size)]
        found = list(passages_of_blocks("t", blocks))
        assert [document.text for document in found] == cut(text)
        assert found == passages("t", text)
        assert names(found) == [f"t:{number}" for number in range(1, len(found) + 1)]


@given(st.lists(st.text(st.sampled_from("ab "), max_size=30), max_size=9), st.integers(1, 60))
def test_json_lines_do_not_depend_on_the_blocks(lines: list[str], size: int) -> None:
    text = "\n".join(json.dumps({"text": line}) if line else "" for line in lines)
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    found = [(document.name, document.text) for document in documents_of_lines(blocks, "t", "t")]
    assert found == [(f"t:{number}", line) for number, line in enumerate(lines, start=1) if line]


@pytest.mark.parametrize(
    ("beginning", "suffix", "expected"),
    [
        ('{"text": "a"}\n{"te', ".txt", True),
        ('{"text": "a"}\n{"te', ".jsonl", True),
        ('{"text": "a"}\n\n  ', ".jsonl", None),  # what follows decides
        ('{"text": "a"} {"text": "b"} {', "", None),  # no line end yet: it may be a carriage return
        ('{"id": 1}\n{"te', ".txt", False),
        ('{\n"text": "a"}\n{"te', ".txt", None),
        ('{"text": "a long te', ".txt", None),
        ('{"text": tr', ".txt", None),
        ('{"text": nonsense, and more of this\n', ".txt", False),
        ('[{"text": "a"},\n{"te', ".json", None),
        ("[Illustration: a cat]\n", ".txt", False),
        ("[1]\nA text\n", ".txt", False),
        ("[1]\n", ".txt", None),
        ("A text\n", ".txt", False),
        ("A text\n", ".jsonl", True),  # as for a short text, its first line is reported
        ("\n\n ", ".txt", None),
    ],
)
def test_what_the_beginning_of_a_text_tells(beginning: str, suffix: str, expected: bool | None) -> None:
    assert are_json_lines(beginning, suffix) is expected
