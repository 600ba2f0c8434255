"""Part-of-speech tags: their names, and the tags of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora_on_disk import load, needs

from lmzoo.corpora import Document, load_tags, token_tags
from lmzoo.corpora.tags import part_of_speech
from lmzoo.errors import CorpusError
from lmzoo.stream import EOT, TokenStream
from lmzoo.tokenizers import train_tokenizer


@pytest.mark.parametrize(
    ("tag", "part"),
    [
        ("nn", "noun"), ("nns$-tl", "noun"), ("nr", "noun"), ("np", "name"), ("NNP", "name"), ("NNS", "noun"),
        ("ppss+md", "pronoun"), ("PRP$", "pronoun"), ("bedz", "verb"), ("do*", "verb"), ("jjt", "adjective"),
        ("wrb", "adverb"), ("wdt", "determiner"), ("wps", "pronoun"), ("dti", "determiner"), ("od", "number"),
        ("to-hl", "particle"), ("*", "particle"), ("POS", "particle"), ("cs", "conjunction"), ("in-tl", "preposition"),
        (".", "punctuation"), ("``", "punctuation"), ("--", "punctuation"), ("-LRB-", "punctuation"),
        ("fw-nn", "other"), ("uh", "other"), ("nil", "other"),
    ],
)  # fmt: skip
def test_parts_of_speech(tag: str, part: str) -> None:
    assert part_of_speech(tag) == part


@pytest.mark.parametrize("spec", ["char", "word", "bpe:300"])
def test_tokens_have_the_tags_of_their_words(spec: str) -> None:
    documents = [Document("1", "The  cats, sat\nthere"), Document("2", ""), Document("3", "é")]
    tags = [Document("1", "at nn vb rb"), Document("2", ""), Document("3", "fw")]
    tokenizer = train_tokenizer(spec, (document.text for document in documents))
    found = token_tags(documents, tags, tokenizer).tolist()
    stream = TokenStream.from_documents(tokenizer.encode_batch([document.text for document in documents]))
    assert len(found) == len(stream)
    assert [tag for tag, token_id in zip(found, stream.ids, strict=True) if token_id == EOT] == ["end"] * 3
    told = dict.fromkeys(zip((tokenizer.token_text(one).strip() for one in stream.ids.tolist()), found, strict=True))
    if spec == "char":
        assert found[:6] == ["at", "at", "at", "space", "space", "nn"]
        assert found[-2] == "fw"
    if spec == "word":
        assert found == ["at", "nn", "nn", "vb", "rb", "end", "end", "fw", "end"]
    if spec == "bpe:300":
        assert {("T", "at"), ("he", "at")} < told.keys(), "a word in pieces"
        assert {tag for _, tag in told} <= {"at", "nn", "vb", "rb", "fw", "space", "end"}


def test_words_without_tags_are_refused() -> None:
    tokenizer = train_tokenizer("char", ["a b"])
    with pytest.raises(CorpusError, match="'x' has 2 words but 1 part-of-speech tags"):
        token_tags([Document("x", "a b")], [Document("x", "nn")], tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["brown", "brown:bengio2003", "treebank"])
def test_corpora_with_tags_have_one_for_each_word(spec: str) -> None:
    needs(spec)
    corpus, tags = load(spec), load_tags(spec)
    assert tags is not None
    for documents, of_words in zip(corpus.splits.values(), tags, strict=True):
        assert [document.name for document in documents] == [document.name for document in of_words]
        sizes = [[len(document.text.split()) for document in split] for split in (documents, of_words)]
        assert sizes[0] == sizes[1]
    words, parts = corpus.train[0].text.split(), tags.train[0].text.split()
    told = dict(zip(words, parts, strict=True))
    expected = {"brown": ("said", "verb"), "brown:bengio2003": ("said", "verb"), "treebank": ("board", "noun")}
    assert told[expected[spec][0]] == expected[spec][1]


def test_other_corpora_have_no_tags(corpus_folder: Path) -> None:
    assert load_tags("kjv") is None
    assert load_tags(str(corpus_folder)) is None
