"""Texts and tables whose surprisals are measured, and the files that the surprisals are written to."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo.corpora.text_files import LineReader, read_text
from lmzoo.errors import CorpusError, MissingExtraError, UsageError
from lmzoo.evaluation.surprisals.contexts import Context, Scope, read_contexts
from lmzoo.evaluation.surprisals.table import SurprisalTable
from lmzoo.evaluation.surprisals.writing import table_file, table_writer

DOCUMENT, SENTENCE = Scope(), Scope(by_sentence=True)


def texts_of(contexts: Any) -> list[str]:
    return [context.text for context in contexts.contexts]


# ---- Lines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"a", b"\xef\xbb\xbfa\r\nb\rc\n\nd", "né\x85\u2028川\n".encode() * 20_000])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_those_of_the_whole_text(data: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(data) if packed else data)
    reader = LineReader(path)
    lines = [*reader]
    assert "".join(lines) == read_text(path)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines[:-1])
    assert reader.n_read == reader.n_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\xff\n", r"is not UTF-8: byte 0xff at offset 3 \(line 2\)"),
        (b"a\n" * 700_000 + b"\xff", r"is not UTF-8: byte 0xff at offset 1,400,000 \(line 700,001\)"),
        (b"a\0b", "NUL byte at offset 1"),
        ("a b".encode("utf-16"), "is encoded as UTF-16: save it as UTF-8"),
        (b"PK\x03\x04", "is a zip archive"),
        (gzip.compress(b"abc" * 1000, mtime=0)[:-12], "is damaged"),
    ],
)
def test_files_that_are_no_text(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        list(LineReader(tmp_path / "text"))


def test_missing_files_and_long_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match=r"cannot read .*nowhere: No such file"):
        LineReader(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"is a folder: name its files, such as .*\*\.txt"):
        LineReader(tmp_path)
    monkeypatch.setenv("LMZOO_MAX_BYTES", "100")
    for line, is_too_long in ((b"a" * 99, False), (b"a" * 100, True), (b"a" * 200, True)):
        (tmp_path / "text.gz").write_bytes(gzip.compress(line + b"\nb"))
        if is_too_long:
            with pytest.raises(
                CorpusError, match=r"line 1 has more than 100 characters: .*LMZOO_MAX_BYTES to a larger"
            ):
                list(LineReader(tmp_path / "text.gz"))
        else:
            assert len([*LineReader(tmp_path / "text.gz")]) == 2
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"a b\n" * 50))
    assert len(texts_of(read_contexts([tmp_path / "text.gz"], SENTENCE))) == 50
    with pytest.raises(CorpusError, match="more than 100 characters, which are one document"):
        texts_of(read_contexts([tmp_path / "text.gz"], DOCUMENT))


def test_the_start_of_a_text_may_be_divided_among_compressed_streams(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"\xef") + gzip.compress(b"\xbb\xbftext\nhi\n"))
    assert [*LineReader(path)] == ["text\n", "hi\n"]
    path.write_bytes(gzip.compress(b"P") + gzip.compress(b"K\x03\x04a text"))
    with pytest.raises(CorpusError, match="is a zip archive"):
        list(LineReader(path))


# ---- Contexts ---------------------------------------------------------------------------------------

TABLE = """item,condition,region,text,rt
1,a,1,The horse,310
1,a,2,"raced, past",420
1,b,1,The horse,300
2,a,1,"She said ""no"" ",290

2,a,2, ,1
2,a,3,"then
left.",500
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "stimuli.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path / "stimuli.csv"


def test_files_and_lines_are_contexts(tmp_path: Path) -> None:
    for name, text in (("one.txt", "a b\n\nc\n"), ("two.txt", "d")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    contexts = read_contexts(paths, DOCUMENT)
    assert (texts_of(contexts), contexts.columns, contexts.n_bytes) == (["a b\n\nc\n", "d"], ["document"], 8)
    found: list[Context] = [*read_contexts(paths, SENTENCE).contexts]
    assert [(context.text, context.parts[0].offset) for context in found] == [("a b", 0), ("c", 5), ("d", 0)]
    assert [context.parts[0].cells for context in found] == [[str(paths[0])]] * 2 + [[str(paths[1])]]
    assert found[-1].n_bytes_read == 8


def test_rows_of_a_table_are_parts_of_documents(table: Path) -> None:
    contexts = read_contexts([table], DOCUMENT)
    assert contexts.columns == ["item", "condition", "region", "text", "rt"]
    assert texts_of(contexts) == ["The horse raced, past", "The horse", 'She said "no"  then\nleft.']
    last = [*read_contexts([table], DOCUMENT).contexts][-1]
    assert [part.cells[4] for part in last.parts] == ["290", "500"], "a row without text has no words"
    assert len(texts_of(read_contexts([table], SENTENCE))) == 5
    by_item = texts_of(read_contexts([table], DOCUMENT, groups=["item"]))
    assert by_item == ["The horse raced, past The horse", 'She said "no"  then\nleft.']
    assert len(texts_of(read_contexts([table], DOCUMENT, groups=[]))) == 5


def test_parts_of_a_document_that_do_not_follow_each_other_are_noted(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for scope, groups in ((DOCUMENT, None), (DOCUMENT, ["item"]), (SENTENCE, ["condition"]), (DOCUMENT, [])):
        texts_of(read_contexts([table, table], scope, groups=groups))
    assert not caplog.records
    by_region = tmp_path / "by-region.csv"
    by_region.write_text("item,region,text\n1,1,The\n2,1,No\n1,2,horse\n2,2,cow\n", encoding="utf-8")
    assert texts_of(read_contexts([by_region], DOCUMENT)) == ["The", "No", "horse", "cow"]
    (record,) = caplog.records
    assert "some rows with the same item do not follow each other" in record.getMessage()


def test_rows_of_a_table_without_regions_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "stimuli.tsv"
    path.write_text("item\tcondition\tsentence\n1\ta\tx y\n1\ta\tx y\n", encoding="utf-8")
    assert texts_of(read_contexts([path], DOCUMENT, text_column="sentence")) == ["x y", "x y"]


def test_blank_lines_may_precede_the_names_of_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "stimuli.csv"
    path.write_text("\n\ntext,n\na b,1\n", encoding="utf-8")
    assert texts_of(read_contexts([path], DOCUMENT)) == ["a b"]


def test_a_cell_may_hold_a_long_text(tmp_path: Path) -> None:
    text = "a b, c\n" * 50_000
    path = tmp_path / "chapters.csv"
    path.write_text(f'text,n\n"{text}",1\nd,2\n', encoding="utf-8")
    before = csv.field_size_limit(limit := 1000)
    try:
        contexts = read_contexts([path], DOCUMENT)
        assert csv.field_size_limit() == limit
        found = [(context.text, csv.field_size_limit()) for context in contexts.contexts]
        assert found == [(text, limit), ("d", limit)]
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("name", ["essay.csv.txt", "thesis.tsv.v2", "notes.json.txt", "notes.jsonl.md.gz"])
def test_a_suffix_in_the_middle_of_a_name_does_not_tell_the_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("one, two\n", encoding="utf-8")
    assert texts_of(read_contexts([tmp_path / name], DOCUMENT)) == ["one, two\n"]


def test_the_suffix_of_a_compressed_file_is_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "a.CSV.gz").write_bytes(gzip.compress(b"text,n\na b,1\n"))
    assert texts_of(read_contexts([tmp_path / "a.CSV.gz"], DOCUMENT)) == ["a b"]
    with pytest.raises(UsageError, match=r"a\.jsonl\.zst is JSON"):
        read_contexts([tmp_path / "a.jsonl.zst"], DOCUMENT)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, expected in (("csv", ["a b"]), (None, ["text,n\na b,1\n"])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text,n\na b,1\n")))
        contexts = read_contexts(["-"], DOCUMENT, kind=kind)  # type: ignore[arg-type]
        assert (texts_of(contexts), contexts.n_bytes) == (expected, None)


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        (
            "a, text\n1,2\n",
            {},
            UsageError,
            "has no column 'text'; its columns are: 'a', ' text'; choose one with --text-column",
        ),
        ("item;text\n1;a\n", {}, UsageError, "are separated by semicolons: save it with commas or, as TSV, with tabs"),
        ("item\ttext\n1\ta\n", {}, UsageError, r"are separated by tabs: read it as TSV \(--input tsv\)"),
        ("item,text\n1,a\n", {"kind": "tsv"}, UsageError, r"are separated by commas: read it as CSV \(--input csv\)"),
        ("", {}, CorpusError, "is empty: its first row must name the columns"),
        ("\n\n", {}, CorpusError, "is empty: its first row must name the columns"),
        (
            "text\nx\n",
            {"groups": ["item"]},
            UsageError,
            "has no column 'item'; its columns are: 'text'; choose one with --group",
        ),
        ("text,text\nx,y\n", {}, CorpusError, "has two columns 'text'"),
        ("text,,\nx,,\n", {}, CorpusError, "has two columns without a name: name or delete them"),
        ("text,n\nx,1\ny\n", {}, CorpusError, "line 3 has 1 cell, but the table has 2 columns"),
        ("text\nx,1\n", {}, CorpusError, "line 2 has 2 cells, but the table has 1 column$"),
        ('text,n\nx,"a\nb"\n"x","c\nd",3\n', {}, CorpusError, "line 4 has 3 cells, but the table has 2 columns"),
        ("text,n\n" + "x,1\n" * 1200 + "x\n", {}, CorpusError, "line 1,202 has 1 cell, but"),
        ('text,n\n\n"x,1\ny,2\nz,3\n', {}, CorpusError, "line 3 has a quotation mark that is not closed: put a cell"),
        ('text,n\n"x" y,1\nz,2\n', {}, CorpusError, "line 2 has text after a closing quotation mark: put a cell"),
        ("text,n\rx,1\ry,2\r", {}, CorpusError, r"line 1 has a carriage return \(CR\) .* line ends LF or CRLF"),
    ],
)
def test_tables_that_cannot_be_read(
    content: str, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=message):
        texts_of(read_contexts([tmp_path / "t.csv"], DOCUMENT, **options))


def test_inputs_that_do_not_go_together(table: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text\nx\n", encoding="utf-8")
    for sources, options, message in [
        ([table, tmp_path / "a.txt"], {}, "plain texts and tables have different columns"),
        ([table, tmp_path / "b.csv"], {}, "have different columns: read them separately"),
        ([tmp_path / "a.txt"], {"groups": ["item"]}, "columns can be named for tables only"),
        ([tmp_path / "a.jsonl"], {}, "is JSON"),
        ([], {}, "name at least one text"),
        ([""], {}, "a name cannot be empty"),
        (["-", tmp_path / "a.txt", "-"], {}, "standard input can be read only once"),
    ]:
        with pytest.raises(UsageError, match=message):
            read_contexts(sources, DOCUMENT, **options)


# ---- Files ------------------------------------------------------------------------------------------

HOSTILE = ['a "b"', "tab\there", "line\nend", "\x1b[2J", "né, 川"]


def small_table() -> SurprisalTable:
    return SurprisalTable(
        {
            "word": np.array(HOSTILE, object),
            "start": np.arange(5),
            "sum": np.array([1 / 3, np.nan, np.inf, 0.0, 12.0]),
            "rank": np.array([1, np.nan, 3, 4, 5]),
        }
    )


@pytest.mark.parametrize(("suffix", "delimiter"), [("tsv", "\t"), ("csv", ",")])
def test_text_files_come_back(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{suffix}"
    with table_file(path, ["word", "start", "sum", "rank"]) as write:
        write(small_table())
        write(small_table())
        assert not path.exists(), "the file appears when it is complete"
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter=delimiter)
    assert header == ["word", "start", "sum", "rank"]
    assert rows[:5] == rows[5:]
    assert [row[0] for row in rows[:5]] == HOSTILE
    assert [row[2] for row in rows[:5]] == ["0.333333", "", "inf", "0.000000", "12.000000"]
    assert [row[3] for row in rows[:5]] == ["1", "", "3", "4", "5"]


def test_json_lines_have_null_for_what_json_lacks() -> None:
    file = io.StringIO()
    table_writer(file, "jsonl", [])(small_table())
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["word"] for row in rows] == HOSTILE
    assert [row["sum"] for row in rows] == [0.333333, None, None, 0, 12]
    assert [row["rank"] for row in rows] == [1, None, 3, 4, 5]
    assert "\x1b" not in file.getvalue()


def test_parquet_has_types_and_nulls(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with table_file(tmp_path / "out.parquet", []) as write:
        write(small_table())
        write(small_table())
    found = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["word"] == HOSTILE * 2
    assert found["sum"][:5] == [1 / 3, None, math.inf, 0.0, 12.0], "all digits"
    assert found["rank"][:5] == [1, None, 3, 4, 5]
    assert all(isinstance(value, int) for value in found["start"])


def test_a_table_without_rows_is_written_in_every_format(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["predictor", "document", "context", "sum", "rank"]
    for suffix, content in (("tsv", "\t".join(names) + "\n"), ("csv", ",".join(names) + "\n"), ("jsonl", "")):
        with table_file(tmp_path / f"out.{suffix}", names):
            pass
        assert (tmp_path / f"out.{suffix}").read_text() == content
    with table_file(tmp_path / "out.parquet", names):
        pass
    table = parquet.read_table(tmp_path / "out.parquet")
    assert (table.num_rows, table.column_names) == (0, names)
    assert table.schema.types == [pyarrow.string()] * 2 + [pyarrow.int64(), pyarrow.float64(), pyarrow.int64()]


def test_after_an_error_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        with table_file(path, ["word"]) as write:
            write(small_table())
            raise CorpusError("no")

    for suffix in ("tsv", "parquet"):
        with pytest.raises(CorpusError, match="no"):
            fail(tmp_path / f"out.{suffix}")
    with (
        pytest.raises(UsageError, match=r"must end in \.tsv, \.csv, \.jsonl, \.parquet; got"),
        table_file(tmp_path / "out.txt", []),
    ):
        pass
    with pytest.raises(UsageError, match="Parquet is not text"):
        table_writer(io.StringIO(), "parquet", [])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        pytest.raises(MissingExtraError, match="a Parquet file needs the package 'pyarrow'"),
        table_file(tmp_path / "out.parquet", []),
    ):
        pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("file_format", "delimiter"), [("tsv", "\t"), ("csv", ",")])
def test_text_files_are_those_of_the_csv_module(file_format: Any, delimiter: str) -> None:
    """More rows than are written at a time, and words with every character that needs quotation marks."""
    rng = np.random.default_rng(0)
    size = 10_000
    words = rng.choice([*HOSTILE, "a,b", '"', "", "cr\rlf", "plain"], size)
    numbers = rng.normal(size=size) * 10.0 ** rng.integers(-8, 5, size)
    numbers[rng.random(size) < 0.1] = np.nan
    ranks = np.where(rng.random(size) < 0.2, np.nan, rng.integers(1, 5000, size))
    table = SurprisalTable(
        {
            "predictor": np.full(size, "n", object),
            "position": np.arange(1, size + 1),
            "word": words.astype(object),
            "start": rng.integers(0, 10**9, size),
            "sum": np.abs(numbers),
            "entropy_reduction": numbers,
            "rank": ranks,
        }
    )
    written, expected = io.StringIO(), io.StringIO()
    table_writer(written, file_format, table.columns)(table)
    writer = csv.writer(expected, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table.columns)
    for row in zip(*(column.tolist() for column in table.columns.values()), strict=True):
        *text, total, reduction, rank = row
        cells = ["" if math.isnan(value) else f"{value:.6f}" for value in (total, reduction)]
        writer.writerow([*text, *cells, "" if math.isnan(rank) else int(rank)])
    lines = [line for line in expected.getvalue().split("\n") if "\r" not in line]
    assert [line for line in written.getvalue().split("\n") if "\r" not in line] == lines
    assert '"cr\rlf"' in written.getvalue(), "older versions of the csv module leave this without quotation marks"
