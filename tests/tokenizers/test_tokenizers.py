"""Tokenizers: round trips, positions, special tokens, saving, and wrong input."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from lmzoo import EOT, Tokenizer, train_tokenizer
from lmzoo.errors import ConfigurationError, TokenIdError, TokenizerError, UnknownNameError
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT

TRAINING = ["the cat sat on the mat.\nthe cat, the hat", "a cat and a hat: été", "low lower lowest newer newest"] * 3
SPECS = ["char", "byte", "bpe:257", "bpe:280", "word", "word:3", "word-space:2"]
TRAINED = {spec: train_tokenizer(spec, TRAINING) for spec in SPECS}
LOSSLESS = [spec for spec in SPECS if not spec.startswith("word")]
SPECIAL = f"{EOT_TEXT}<|endoftext|><unk>[UNK]<s></s>[CLS]<pad><0x41>ĠĊ▁"

any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("spec", LOSSLESS)
@given(text=any_text)
@example(text=SPECIAL)
@example(text="日本語のテキスト 😀👩‍👩‍👧 \r\n\t\x00  ")
@example(text="")
def test_round_trip(spec: str, text: str) -> None:
    tokenizer = TRAINED[spec]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(token_id) for token_id in ids.tolist()) == text.encode()


@pytest.mark.parametrize("spec", SPECS)
@given(text=any_text)
@example(text=SPECIAL)
def test_ids_lie_in_the_vocabulary_and_are_never_eot(spec: str, text: str) -> None:
    ids = TRAINED[spec].encode(text)
    assert ids.dtype == np.int32
    assert not (ids == EOT).any()
    assert ((ids > 0) & (ids < TRAINED[spec].vocab_size)).all()


@pytest.mark.parametrize("spec", SPECS)
@given(text=any_text)
@example(text=SPECIAL)
def test_pieces_hold_the_ids_with_their_positions(spec: str, text: str) -> None:
    tokenizer = TRAINED[spec]
    pieces = tokenizer.pieces(text)
    assert [piece.token_id for piece in pieces] == tokenizer.encode(text).tolist()
    starts = [piece.start for piece in pieces]
    assert starts == sorted(starts)
    assert all(0 <= piece.start < piece.end <= len(text) for piece in pieces)
    if tokenizer.lossless:
        covered = {index for piece in pieces for index in range(piece.start, piece.end)}
        assert covered == set(range(len(text)))


@pytest.mark.parametrize("spec", SPECS)
def test_the_text_of_a_token_is_that_of_decoding_it_alone(spec: str) -> None:
    tokenizer = TRAINED[spec]
    for token_id in [*range(tokenizer.vocab_size), 1]:
        assert tokenizer.text_of(token_id) == tokenizer.decode([token_id])
    with pytest.raises(TokenIdError):
        tokenizer.text_of(tokenizer.vocab_size)


@pytest.mark.parametrize("spec", SPECS)
def test_saved_and_opened_by_hugging_face(spec: str, tmp_path) -> None:
    tokenizer = TRAINED[spec]
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert (loaded.kind, loaded.vocab_size, loaded.lossless) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.lossless,
    )
    assert loaded.fingerprint == tokenizer.fingerprint
    for text in [*TRAINING[:3], SPECIAL, "unseen 日本"]:
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist() == plain.encode(text).ids


@pytest.mark.parametrize("spec", SPECS)
def test_training_is_repeatable_and_batches_equal_single_texts(spec: str) -> None:
    assert train_tokenizer(spec, TRAINING).fingerprint == TRAINED[spec].fingerprint
    texts = ["", *TRAINING, SPECIAL]
    for batch, text in zip(TRAINED[spec].encode_batch(texts), texts, strict=True):
        assert batch.tolist() == TRAINED[spec].encode(text).tolist()
    assert TRAINED[spec].encode_batch([]) == []


def test_the_id_of_a_byte_is_its_value_plus_one() -> None:
    tokenizer = TRAINED["byte"]
    assert tokenizer.vocab_size == 257
    assert [tokenizer.token_bytes(byte + 1) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.encode("aé\n").tolist() == [byte + 1 for byte in "aé\n".encode()]
    assert [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode("aé")] == [b"a", b"\xc3", b"\xa9"]


def test_characters_of_the_training_text_are_tokens_and_others_are_bytes() -> None:
    tokenizer = TRAINED["char"]
    assert tokenizer.vocab_size == 1 + 256 + len(set("".join(TRAINING)))
    assert len(tokenizer.encode("été")) == 3
    assert len(tokenizer.encode("日")) == 3  # three bytes of UTF-8
    assert [piece.text for piece in tokenizer.pieces("a日")] == ["a", r"\xe6", r"\x97", r"\xa5"]


def test_byte_pairs_by_hand() -> None:
    """The example of Wikipedia's article on byte-pair encoding: "aaabdaaabac".

    The pair aa is the most frequent one (4 times, overlaps counted), and becomes an entry: [aa]abd[aa]abac. Then [aa]a
    and ab occur twice each, all others once. In either order, "aaab" is an entry after two more merges. The vocabulary
    then has EOT, 256 bytes and three merged entries, and the text is aaab d aaab a c.
    """
    tokenizer = train_tokenizer("bpe:260", ["aaabdaaabac"])
    assert tokenizer.vocab_size == 260
    assert [piece.text for piece in tokenizer.pieces("aaabdaaabac")] == ["aaab", "d", "aaab", "a", "c"]


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = train_tokenizer("bpe:5000", ["abab"])
    assert tokenizer.vocab_size < 300
    assert tokenizer.spec == f"bpe:{tokenizer.vocab_size}"
    assert len(train_tokenizer("bpe:300", []).encode("abc")) == 3


def test_rare_words_are_unknown() -> None:
    tokenizer = train_tokenizer("word:2", ["one two two, three three three"])
    words = [tokenizer.token_text(token_id) for token_id in range(tokenizer.vocab_size)]
    assert words == [EOT_TEXT, UNKNOWN_TEXT, "three", "two"]
    ids = tokenizer.encode("two, one three")
    assert ids.tolist() == [3, 1, 1, 2]
    assert tokenizer.unknown_id == 1
    assert not tokenizer.lossless
    assert tokenizer.decode(ids) == f"two {UNKNOWN_TEXT} {UNKNOWN_TEXT} three"


def test_word_space_splits_at_white_space_only() -> None:
    tokenizer = train_tokenizer("word-space:1", ["the `` end '' ."])
    assert [piece.text for piece in tokenizer.pieces("the `` end '' .")] == ["the", "``", "end", "''", "."]
    assert tokenizer.spec == "word-space:1"


def test_closed_vocabulary() -> None:
    tokenizer = train_tokenizer("word-space:1", ["never read"], vocabulary=["b", "a", "b", UNKNOWN_TEXT])
    assert tokenizer.vocab_size == 4
    # WikiText and Penn Treebank spell unknown words as <unk> in their texts.
    assert tokenizer.encode(f"a {UNKNOWN_TEXT} c").tolist() == [3, 1, 1]
    with pytest.raises(ConfigurationError, match="needs a word tokenizer"):
        train_tokenizer("byte", [], vocabulary=["a"])


NAMES = ["<|user|>", "<|assistant|>", "the"]


@pytest.mark.parametrize("spec", SPECS)
def test_special_tokens_get_new_ids_that_no_text_produces(spec: str, tmp_path: Path) -> None:
    base = TRAINED[spec]
    tokenizer = base.with_special_tokens(NAMES[:1]).with_special_tokens(NAMES[1:])
    size = base.vocab_size
    assert tokenizer.special_tokens == {name: size + index for index, name in enumerate(NAMES)}
    assert tokenizer.fingerprint == base.with_special_tokens(NAMES).fingerprint
    assert (tokenizer.vocab_size, tokenizer.spec, tokenizer.lossless) == (size + 3, base.spec, base.lossless)
    assert tokenizer.entries[:size] == base.entries
    for text in [*TRAINING, SPECIAL, *NAMES, "x<|user|>the<|assistant|> y", tokenizer.entries[-1], EOT_TEXT]:
        assert tokenizer.encode(text).tolist() == base.encode(text).tolist()
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.special_tokens, loaded.fingerprint) == (tokenizer.special_tokens, tokenizer.fingerprint)


@pytest.mark.parametrize("spec", SPECS)
def test_special_tokens_are_decoded_only_on_request(spec: str) -> None:
    tokenizer = TRAINED[spec].with_special_tokens(NAMES)
    user, assistant, _ = tokenizer.special_tokens.values()
    cat, hat = tokenizer.encode("cat").tolist(), tokenizer.encode("hat").tolist()
    cat_text, hat_text = tokenizer.decode(cat), tokenizer.decode(hat)  # "word:3" knows neither word
    ids = [user, *cat, assistant, user, *hat, EOT]
    assert tokenizer.decode(ids) == tokenizer.decode([*cat, *hat])
    assert tokenizer.decode(ids, show_special=True) == f"<|user|>{cat_text}<|assistant|><|user|>{hat_text}{EOT_TEXT}"
    assert tokenizer.decode([], show_special=True) == ""
    assert (tokenizer.token_text(user), tokenizer.token_bytes(user)) == ("<|user|>", b"")


@pytest.mark.parametrize("names", [[""], ["a", "a"], [EOT_TEXT], ["<|user|>"]])
def test_names_of_special_tokens_are_unique_and_not_empty(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="special token"):
        TRAINED["byte"].with_special_tokens(["<|user|>"]).with_special_tokens(names)


def test_long_texts_without_a_space() -> None:
    text = "".join(random.Random(0).choices("abcdefgh日", k=300_000))
    for spec in LOSSLESS:
        tokenizer = TRAINED[spec]
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("bqe:300", UnknownNameError),
        ("", UnknownNameError),
        ("bpe", ConfigurationError),
        ("bpe:256", ConfigurationError),
        ("bpe:1e3", ConfigurationError),
        ("bpe:99999999999", ConfigurationError),
        ("bpe:" + "9" * 5000, ConfigurationError),
        ("bpe:" + "0" * 17 + "4096000000", ConfigurationError),
        ("word:0", ConfigurationError),
        ("char:5", ConfigurationError),
    ],
)
def test_wrong_specs(spec: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        train_tokenizer(spec, TRAINING)


def test_zeros_before_a_number_change_nothing() -> None:
    zeros = train_tokenizer("word:" + "0" * 5000 + "2", TRAINING)
    assert zeros.fingerprint == train_tokenizer("word:2", TRAINING).fingerprint


def test_wrong_ids_and_texts() -> None:
    with pytest.raises(TokenIdError):
        TRAINED["byte"].decode([257])
    with pytest.raises(TokenIdError):
        TRAINED["byte"].token_text(-1)
    with pytest.raises(TokenizerError, match="character 1 of the text is half of a surrogate pair"):
        TRAINED["byte"].encode("a\ud800")


def test_damaged_and_foreign_files(tmp_path) -> None:
    with pytest.raises(TokenizerError, match="missing"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="damaged"):
        Tokenizer.from_json(TRAINED["byte"].to_json()[:100])
    foreign = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(TokenizerError, match="not written by lmzoo"):
        Tokenizer.from_json(foreign.to_str())
    special = json.loads(TRAINED["byte"].to_json())
    special["added_tokens"] = [
        {"id": 0, "content": EOT_TEXT, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    ]  # fmt: skip
    with pytest.raises(TokenizerError, match="not written by lmzoo"):
        Tokenizer.from_json(json.dumps(special))
