"""Parquet and Arrow files as corpora: documents, splits, folders of `datasets`, and every kind of wrong table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpora_on_disk import json_lines, names, texts, write

from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError, MissingExtraError
from lmzoo.system.progress import Progress

pyarrow: Any = pytest.importorskip("pyarrow", reason="there is no pyarrow: pip install 'lmzoo[arrow]'")
parquet: Any = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"text {number}" for number in range(20)]


def save(path: Path, columns: dict[str, Any], *, rows: int | None = None) -> Path:
    """Writes a table in the format that the name of the file tells: .parquet, .arrow (a file) or .stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=rows)
        return path
    new = pyarrow.ipc.new_file if path.suffix == ".arrow" else pyarrow.ipc.new_stream
    with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


KINDS = ("parquet", "arrow", "stream")


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_a_document(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / f"a.{kind}", {"id": range(20), "text": TEXTS}, rows=7)
    corpus = load_corpus(path)
    assert [document.text for document in corpus.train] == [TEXTS[i] for i in range(20) if i % 10 < 8]
    assert names(corpus.test) == [f"a.{kind}:10", f"a.{kind}:20"]
    assert corpus.licence == "not stated"


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_the_same_corpus_as_json_lines_of_its_rows(tmp_path: Path, kind: str) -> None:
    rows = ["one", "", "two\r\nlines", "日本語 🎉", None, "six"]
    table = load_corpus(save(tmp_path / f"a.{kind}", {"text": rows}, rows=4))
    lines = load_corpus(write(tmp_path / "a.jsonl", json_lines(*(row or "" for row in rows))))
    assert texts(table) == texts(lines) == ["one", "two\r\nlines", "日本語 🎉", "six"]


def test_reading_reports_the_bytes_of_each_table(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.{kind}", {"text": TEXTS}) for n, kind in enumerate(KINDS)]
    seen: list[Progress] = []
    load_corpus(paths, seen.append)
    sizes = [path.stat().st_size for path in paths]
    assert [progress.done for progress in seen] == [sizes[0], sizes[0] + sizes[1], sum(sizes)]
    assert {progress.total for progress in seen} == {sum(sizes)}


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("form", KINDS)
def test_types_of_text(tmp_path: Path, kind: str, form: str) -> None:
    if kind == "string_view" and not hasattr(pyarrow, kind):
        pytest.skip("the type string_view came with pyarrow 16")
    array = pyarrow.array(["a", "b", None, "a", "c"])
    try:
        array = array.dictionary_encode() if kind == "dictionary" else array.cast(getattr(pyarrow, kind)())
        path = save(tmp_path / f"a.{form}", {"text": array})
    except pyarrow.ArrowNotImplementedError:
        pytest.skip(f"this version of pyarrow cannot write a {kind}")
    assert texts(load_corpus(path)) == ["a", "b", "a", "c"]


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    for kind in KINDS:
        path = save(tmp_path / f"a.{kind}", {"text": TEXTS}).rename(tmp_path / f"{kind}.data")
        assert len(load_corpus(path).train) == 16


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_the_column_is_named_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "a.jsonl":
        write(Path(name), "".join(f'{{"text": "no", "content": "{text}"}}\n' for text in TEXTS))
    else:
        save(Path(name), {"text": ["no"] * 20, "content": TEXTS})
    corpus = load_corpus(f"{name}:content")
    assert sorted(texts(corpus)) == sorted(TEXTS)
    assert corpus.name == f"{name}:content"
    assert load_corpus([f"{name}:content"]).fingerprint == corpus.fingerprint
    assert load_corpus(f"*.{name[2:]}:content").fingerprint == corpus.fingerprint
    assert set(texts(load_corpus(name))) == {"no"}


def test_a_file_whose_name_has_a_colon_is_not_divided(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", {"content": TEXTS})
    path = save(tmp_path / "a.parquet:content.parquet", {"text": ["other"] * 3})
    assert texts(load_corpus(str(path))) == ["other"] * 3
    with pytest.raises(CorpusError, match=r"there is no file or folder .*/b.parquet:content"):
        load_corpus(str(tmp_path / "b.parquet:content"))
    with pytest.raises(
        CorpusError, match='is plain text, which has no field "content": give the name of the file only'
    ):
        load_corpus(f"{write(tmp_path / 'a.txt', 'text' * 500)}:content")


def test_splits_by_the_names_of_files(tmp_path: Path) -> None:
    for split, text in (("train", "a"), ("validation", "b"), ("test", "c")):
        save(tmp_path / "data" / f"{split}-00000-of-00001.parquet", {"text": [text, text]})
    write(tmp_path / "README.md", "---\nlicense: mit\npretty_name: Three letters\n---\n# Another title\n")
    corpus = load_corpus(tmp_path)
    assert [[document.text for document in split] for split in corpus.splits.values()] == [
        ["a"] * 2,
        ["b"] * 2,
        ["c"] * 2,
    ]
    assert (corpus.title, corpus.licence) == ("Three letters", "mit")


def test_a_folder_with_texts_and_tables_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", json_lines(*TEXTS))
    save(tmp_path / "a.parquet", {"text": TEXTS})
    with pytest.raises(CorpusError, match=r"has texts \(a.jsonl\) and tables \(a.parquet\): name those"):
        load_corpus(tmp_path)
    assert len(load_corpus(f"{tmp_path}/**/*.parquet").train) == 16


# ---- Folders of Hugging Face datasets ---------------------------------------------------------------


def test_a_saved_data_set(tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets", reason="there is no datasets: pip install datasets")
    info = datasets.DatasetInfo(license="cc-by-4.0", citation="A. Author,\nTexts, 2020")
    table = datasets.Dataset.from_dict({"n": range(20), "text": TEXTS}, info=info)
    table.save_to_disk(tmp_path / "one", num_shards=3)
    corpus = load_corpus(tmp_path / "one")
    assert [document.text for document in corpus.train] == [TEXTS[i] for i in range(20) if i % 10 < 8]
    assert (corpus.licence, corpus.citation) == ("cc-by-4.0", "A. Author, Texts, 2020")

    # `map` leaves its results in the folder of a loaded data set, and they are not part of it.
    datasets.load_from_disk(tmp_path / "one").map(lambda row: {"text": row["text"].upper()})
    assert list((tmp_path / "one").glob("cache-*.arrow"))
    assert load_corpus(tmp_path / "one").fingerprint == corpus.fingerprint

    parts = {"train": table.select(range(12)), "validation": table.select(range(12, 15)), "test": table.select([17])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "three")
    corpus = load_corpus(tmp_path / "three")
    assert texts(corpus) == [*TEXTS[:15], TEXTS[17]]
    assert [len(split) for split in corpus.splits.values()] == [12, 3, 1]
    assert corpus.licence == "cc-by-4.0"


def test_an_incomplete_data_set_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "data-00000-of-00002.arrow", {"text": TEXTS})
    files = '[{"filename": "data-00000-of-00002.arrow"}, {"filename": "data-00001-of-00002.arrow"}]'
    write(tmp_path / "state.json", f'{{"_data_files": {files}}}')
    with pytest.raises(CorpusError, match=r"has no file data-00001-of-00002.arrow: copy the whole folder again"):
        load_corpus(tmp_path)
    write(tmp_path / "state.json", "[1, 2]")  # a file of something else
    assert len(load_corpus(tmp_path).train) == 16


# ---- Wrong tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id": [1], "body": ["a"]},
            r'a.\w+ has no column "text"; its columns are: id, body; name one with text, as in .*a.\w+:body$',
        ),
        ({"id": [1]}, r'has no column "text"; its columns are: id, and none has text$'),
        ({"text": [1]}, r'the column "text" of .* has values of type int64, and none has text$'),
        ({"text": [["a"]], "t": ["a"]}, r'the column "text" of .* has values of type list<.*>; name one with text'),
        ({"text": ["a", None, " "]}, "has 1 non-empty document, but"),
        ({"text": pyarrow.array([None, ""], "string")}, r"there is no text in .*a.\w+$"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, kind: str, columns: dict[str, Any], message: str) -> None:
    path = save(tmp_path / f"a.{kind}", columns)
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r'a.parquet has two columns "text": rename one of them$'):
        load_corpus(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "zeros", "head"])
def test_damaged_tables_are_named(tmp_path: Path, kind: str, damage: str) -> None:
    path = save(tmp_path / f"a.{kind}", {"text": TEXTS * 50})
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes({"cut": data[:half], "zeros": data[:8] + bytes(len(data) - 8), "head": data[:8]}[damage])
    with pytest.raises(CorpusError, match=rf"a.{kind} is damaged: |there is no text in .*a.{kind}$") as raised:
        load_corpus(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["arrow", "stream"])
def test_offsets_beyond_the_data_are_refused(tmp_path: Path, kind: str) -> None:
    """Arrow does not check a file that it maps into memory, and would read whatever lies behind the text."""
    path = save(tmp_path / f"a.{kind}", {"text": ["aaaa", "bbbb", "cccc"]})
    offsets, wrong = (b"".join(n.to_bytes(4, "little") for n in (0, 4, 8, last)) for last in (12, 1 << 20))
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, wrong))
    with pytest.raises(CorpusError, match=r"is damaged: .*[Oo]ffset"):
        load_corpus(path)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    wrong = pyarrow.array([b"fine", b"\xff\xfe", b"fine"]).view("string")
    for kind in KINDS:
        with pytest.raises(CorpusError, match=r"is damaged: .*UTF"):
            load_corpus(save(tmp_path / f"a.{kind}", {"text": wrong}))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_small_file_with_endless_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    text = pyarrow.array(["word " * 1000] * 2000).dictionary_encode()
    path = save(tmp_path / f"a.{kind}", {"text": text})
    assert path.stat().st_size < 100_000
    monkeypatch.setenv("LMZOO_MAX_BYTES", "1000000")
    with pytest.raises(CorpusError, match=r"has more than 1,000,000 characters of text.*LMZOO_MAX_BYTES"):
        load_corpus(path)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.parquet", {"text": TEXTS})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'pyarrow': pip install 'lmzoo\[arrow\]'"):
        load_corpus(path)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_batch_of_the_table_is_in_memory(tmp_path: Path, kind: str) -> None:
    """A table of 32 MB, in row groups of the usual size, is read two row groups of 8 MB at a time."""
    words = "a few words "
    path = save(tmp_path / f"a.{kind}", {"text": [f"{n} {words * 80}" for n in range(32_000)]}, rows=8000)
    code = (
        "import sys, pathlib, pyarrow\n"
        "from lmzoo.corpora.arrow_tables import table_documents\n"
        "n = sum(len(document.text) for document in table_documents(pathlib.Path(sys.argv[1]), 'a', 'text'))\n"
        "print(n, pyarrow.default_memory_pool().max_memory())"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    n_characters, most = map(int, finished.stdout.split())
    assert n_characters > 30_000_000
    assert most < 20_000_000
