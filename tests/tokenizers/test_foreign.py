"""Tokenizers of the Hugging Face library as files: the same ids, tokens and positions as the library gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_texts import small_texts
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lmzoo import Predictor, Tokenizer, train_tokenizer
from lmzoo.errors import ConfigurationError, LmzooError, TokenizerError
from lmzoo.experiments.compare import compare
from lmzoo.tokenizers import check_tokenizer, open_tokenizer
from lmzoo.tokenizers.tokenizer import EOT_TEXT

TEXTS = [*small_texts(10), "été 日本語 😀 e\u0301 \0 1234\n\n\tx"]
ODD_TEXTS = [
    *(
        "",
        " ",
        "   a  b",
        "\n\n \t",
        "日本語 한국어",
        "😀👩‍👩‍👧 e\u0301",
        "a\0b",
        "<s></s><|endoftext|>[UNK]<unk><tool>x",
    ),
    "king" * 10_000,
    *small_texts(3),
]
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def trained(plain: tokenizers.Tokenizer, trainer: trainers.Trainer) -> tokenizers.Tokenizer:
    plain.train_from_iterator(TEXTS, trainer)
    return plain


def like_gpt2(special: list[str]) -> tokenizers.Tokenizer:
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained(
        plain,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    plain.add_tokens(["<tool>"])  # not special: texts produce it
    return plain


def like_llama() -> tokenizers.Tokenizer:
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    characters = sorted({*"▁", *"".join(TEXTS).replace(" ", "▁")})
    vocab = {entry: token_id for token_id, entry in enumerate([*entries, *characters, "th", "the", "▁the"])}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    plain = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    plain.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    plain.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    plain.add_special_tokens(["<unk>", "<s>", "</s>"])
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return plain


def words() -> tokenizers.Tokenizer:
    plain = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return trained(plain, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"], show_progress=False))


def like_bert() -> tokenizers.Tokenizer:
    plain = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    plain.normalizer = normalizers.BertNormalizer(lowercase=True)
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return trained(plain, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False))


OTHERS = {
    "eot last": like_gpt2(["<pad>", "<|endoftext|>"]),
    "eot first": like_gpt2(["<|endoftext|>"]),
    "no eot": like_gpt2([]),
    "llama": like_llama(),
    "words": words(),
    "bert": like_bert(),
}
OPENED = {}


@pytest.fixture(scope="module", autouse=True)
def opened(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, plain in OTHERS.items():
        path = tmp_path_factory.mktemp("other") / "tokenizer.json"
        plain.save(str(path))
        plain.encode_special_tokens = True  # as in lmzoo, the spelling of a special token is ordinary text
        OPENED[name] = open_tokenizer(str(path if name == "llama" else path.parent))


def same_tokens(name: str, text: str) -> None:
    """Raises AssertionError unless the tokens of a text have the ids, entries and positions of the library."""
    opened, theirs = OPENED[name], OTHERS[name].encode(text, add_special_tokens=False)
    tokenizer = opened.tokenizer
    assert [opened.original_id(token_id) for token_id in tokenizer.encode(text).tolist()] == theirs.ids
    pieces = tokenizer.pieces(text)
    assert [opened.original_id(piece.token_id) for piece in pieces] == theirs.ids
    assert [(piece.start, piece.end) for piece in pieces] == theirs.offsets
    entries = [tokenizer.entries[piece.token_id] for piece in pieces if piece.token_id != tokenizer.unknown_id]
    assert entries == [token for token in theirs.tokens if token != "[UNK]"]


@pytest.mark.parametrize("name", OTHERS)
@given(text=any_text)
@settings(max_examples=200)
def test_any_text_has_the_ids_of_the_library(name: str, text: str) -> None:
    same_tokens(name, text)


@pytest.mark.parametrize("name", OTHERS)
def test_odd_texts_have_the_ids_of_the_library(name: str) -> None:
    for text in ODD_TEXTS:
        same_tokens(name, text)


def test_end_of_text_is_a_special_token_of_the_file_or_a_new_one() -> None:
    assert {name: opened.eot_id for name, opened in OPENED.items()} == {
        "eot last": 1,
        "eot first": 0,
        "no eot": OTHERS["no eot"].get_vocab_size(),
        "llama": 2,
        "words": OTHERS["words"].get_vocab_size(),
        "bert": 3,
    }
    for name, opened in OPENED.items():
        size = OTHERS[name].get_vocab_size() + (name in ("no eot", "words"))
        assert opened.tokenizer.vocab_size == size
        assert opened.tokenizer.entries[0] == EOT_TEXT
        assert sorted(map(opened.original_id, range(size))) == [*range(size)]
        assert opened.original_id(0) == opened.eot_id


def test_parts_of_words_are_shown_as_written(tmp_path: Path, corpus_folder: Path) -> None:
    vocab = {entry: token_id for token_id, entry in enumerate(["[PAD]", "[UNK]", "the", "ship", "##s", "##wright"])}
    plain = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.decoder = decoders.WordPiece()
    plain.save(str(tmp_path / "tokenizer.json"))
    opened = open_tokenizer(str(tmp_path))
    assert opened is not None
    tokenizer = opened.tokenizer
    pieces = tokenizer.pieces("the shipwrights zoo")
    assert [piece.text for piece in pieces] == ["the", "ship", "##wright", "##s", "<unk>"]
    assert [opened.original_id(piece.token_id) for piece in pieces] == [2, 3, 5, 4, 1]
    assert [tokenizer.token_bytes(piece.token_id) for piece in pieces[:4]] == [b"the", b"ship", b"wright", b"s"]
    assert (tokenizer.kind, tokenizer.lossless, tokenizer.unknown_id) == ("wordpiece", False, 1)
    assert tokenizer.decode(tokenizer.encode("the  shipwrights")) == "the shipwrights"
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer=tokenizer, order=2)
    predictor.save(tmp_path / "home")
    assert Predictor.load(tmp_path / "home").tokenizer.fingerprint == tokenizer.fingerprint


def test_own_tokenizers_keep_their_ids(tmp_path: Path) -> None:
    own = train_tokenizer("bpe:300", TEXTS).with_special_tokens(["</s>"])
    own.save(tmp_path / "tokenizer.json")
    opened = open_tokenizer(str(tmp_path))
    assert opened is not None
    assert (opened.eot_id, opened.tokenizer.fingerprint) == (0, own.fingerprint)


def test_specifications_of_tokenizers_to_train_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "char").mkdir()
    assert [open_tokenizer(spec) for spec in ("char", "word:2", "bpe:300", "cahr", "", "x" * 5000)] == [None] * 6
    assert train_tokenizer("char", ["ab"]).kind == "char"


def test_models_are_trained_with_a_tokenizer_of_others(tmp_path: Path, corpus_folder: Path) -> None:
    path = tmp_path / "other.json"
    OTHERS["eot last"].save(str(path))
    check_tokenizer(str(path))
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer=str(path), order=2)
    assert predictor.tokenizer.fingerprint == OPENED["eot last"].tokenizer.fingerprint
    predictor.save(tmp_path / "home")
    loaded = Predictor.load(tmp_path / "home").tokenizer
    assert (loaded.fingerprint, loaded.spec) == (predictor.tokenizer.fingerprint, predictor.tokenizer.spec)
    result = compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer=str(path))
    assert result.records[0].tokenizer_fingerprint == loaded.fingerprint
    with pytest.raises(ConfigurationError, match="needs a word tokenizer"):
        train_tokenizer(str(path), [], vocabulary=["a"])


def test_a_run_continues_only_with_the_same_file(tmp_path: Path, corpus_folder: Path) -> None:
    path = tmp_path / "other.json"
    OTHERS["eot last"].save(str(path))
    compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer=str(path))
    OTHERS["eot first"].save(str(path))
    with pytest.raises(LmzooError, match="tokenizer"):
        compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer=str(path))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for spec in (str(path), str(tmp_path / "nowhere"), "tokenizer.json", f"{tmp_path}/{'x' * 5000}", "a\0/b"):
        with pytest.raises(TokenizerError, match="there is no tokenizer at"):
            check_tokenizer(spec)
    with pytest.raises(TokenizerError, match="is missing"):
        check_tokenizer(str(tmp_path))
    for content in ("", "{}", '{"model": 1}', OTHERS["words"].to_str()[:-1]):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: .*damaged"):
            check_tokenizer(str(path))
    description = json.loads(OTHERS["words"].to_str())
    description["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
    description["added_tokens"] = []
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(TokenizerError, match="Unigram; lmzoo can read BPE, WordLevel and WordPiece"):
        check_tokenizer(str(path))


def test_word_pieces_need_a_token_for_unknown_words(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(models.WordPiece(vocab={"a": 0}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(TokenizerError, match=r"no token '\[UNK\]' for unknown words"):
        check_tokenizer(str(path))


def test_the_class_itself_opens_own_files_only(tmp_path: Path) -> None:
    OTHERS["words"].save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="not written by lmzoo"):
        Tokenizer.load(tmp_path / "tokenizer.json")
