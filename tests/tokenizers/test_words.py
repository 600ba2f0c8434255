"""What a word is: one definition for tokenizers, word counts and ARPA files."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmzoo import Tokenizer, train_tokenizer
from lmzoo.corpora.corpus import Document, Size
from lmzoo.corpora.encoded import encode_documents
from lmzoo.errors import TokenizerError
from lmzoo.tokenizers import word_tokenizer
from lmzoo.tokenizers.words import LEXICAL, SEPARATORS, count_words, split_bytes, split_words

UNUSUAL = "10\xa0000\u202f! ab\x85cd\x0bef\x0cgh 東\u3000京 \x1c\x1f \u2028x\0y\r\nz\t\t"
WORDS = ["10\xa0000\u202f!", "ab\x85cd\x0bef\x0cgh", "東\u3000京", "\x1c\x1f", "\u2028x", "y", "z"]
any_text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SEPARATORS + "\x0b\x0c\x85\xa0\u3000"))


def test_only_five_characters_separate_words() -> None:
    assert split_words(UNUSUAL) == WORDS
    separating = [
        code for code in {*range(sys.maxunicode + 1)} - {*range(0xD800, 0xE000)} if count_words(f"a{chr(code)}b") == 2
    ]
    assert "".join(map(chr, separating)) == "\0\t\n\r "


@given(text=any_text)
@example(text=UNUSUAL)
def test_all_readers_of_separated_words_agree(text: str) -> None:
    words = split_words(text)
    assert [word.decode() for word in split_bytes(text.encode())] == words
    assert count_words(text) == len(words) == Size.of([Document("one", text)]).words
    tokenizer = train_tokenizer("word-space:1", [text])
    assert [piece.text for piece in tokenizer.pieces(text)] == words
    assert set(tokenizer.entries[2:]) == set(words) - {"<unk>"}
    assert encode_documents([Document("one", text)], tokenizer).document_words.tolist() == [len(words)]


def test_lexical_words_are_the_words_of_the_word_tokenizer() -> None:
    assigned = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    characters = [character for character in assigned if LEXICAL.fullmatch(character)]
    others = sorted(set(assigned) - set(characters))
    tokenizer = train_tokenizer("word:1", [" ".join(f"a{character}b" for character in characters)])
    assert tokenizer.vocab_size == 2 + len(characters)
    assert train_tokenizer("word:1", [" ".join(f"a{other}a" for other in others)]).encode("a").tolist() == [2]
    assert not any(LEXICAL.fullmatch(f"a{other}a") for other in others)
    hindi = "हम सब बाज़ार से किताब लाए थे"
    assert LEXICAL.findall(hindi) == [piece.text for piece in tokenizer.pieces(hindi)] == hindi.split()


def test_a_word_tokenizer_of_an_earlier_version_still_loads() -> None:
    text = train_tokenizer("word-space:1", ["a b"]).to_json()
    start = text.index('"pre_tokenizer"')
    end = text.index('"post_processor"')
    old = Tokenizer.from_json(f'{text[:start]}"pre_tokenizer": {{"type": "WhitespaceSplit"}},\n {text[end:]}')
    assert (old.spec, old.encode("a b a").tolist()) == ("word-space", [2, 3, 2])


@pytest.mark.parametrize("word", ["a b", "", " a", "a\n", "a\0b", "\t", "a\r"])
def test_a_vocabulary_with_a_word_that_no_text_can_produce_is_refused(word: str) -> None:
    for make in (lambda: word_tokenizer(["c", word]), lambda: train_tokenizer("word", [], vocabulary=["c", word])):
        with pytest.raises(TokenizerError, match="no text can produce") as caught:
            make()
        assert repr(word) in str(caught.value)


def test_a_vocabulary_with_a_word_twice_is_refused() -> None:
    with pytest.raises(TokenizerError, match="has the word 'b' twice"):
        word_tokenizer(["b", "a", "b"])
