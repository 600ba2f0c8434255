"""From training text to a tokenizer, by a spec: char | byte | word[:N] | word-space[:N] | bpe:SIZE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from lmzoo.errors import ConfigurationError, TokenizerError, UnknownNameError
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT, Tokenizer
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

DEFAULT_WORD_COUNT = 2
_BYTE_ENTRIES = [f"<0x{byte:02X}>" for byte in range(256)]
_MAX_VOCAB_SIZE = 10_000_000


def check_tokenizer(spec: str) -> None:
    """ConfigurationError or UnknownNameError unless `train_tokenizer` takes it."""
    _parsed(spec)


def train_tokenizer(
    spec: str,
    texts: Iterable[str],
    *,
    vocabulary: Sequence[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Tokenizer:
    """A tokenizer of the kind that `spec` names, trained on `texts`.

    | spec           | tokens                                                                        |
    |----------------|-------------------------------------------------------------------------------|
    | `char`         | the characters of the texts; others fall back to their bytes                  |
    | `byte`         | the 256 bytes                                                                 |
    | `word:4`       | words and punctuation seen at least 4 times (`word` alone: 2), else `<unk>`   |
    | `word-space:4` | the same, split at white space only: for text that is tokenised already       |
    | `bpe:4096`     | byte pairs, 4,096 entries; fewer if the texts do not support so many          |

    A `vocabulary` closes the word list, as published protocols do; the text is then split at white space.
    Raises ConfigurationError or UnknownNameError for a wrong spec.
    """
    kind, number = _parsed(spec)
    texts = _reporting(texts, on_progress)
    if vocabulary is not None:
        if not kind.startswith("word"):
            raise ConfigurationError(f"a closed vocabulary needs a word tokenizer, not '{spec}'")
        return Tokenizer(_words(list(dict.fromkeys(vocabulary)), pre_tokenizers.WhitespaceSplit()))
    if kind == "char":
        return Tokenizer(_characters(texts))
    if kind == "byte":
        return Tokenizer(_byte_pairs([], []))
    if kind == "bpe":
        return Tokenizer(_trained_byte_pairs(texts, number))
    splitter = pre_tokenizers.WhitespaceSplit() if kind == "word-space" else pre_tokenizers.Whitespace()
    return Tokenizer(_trained_words(texts, splitter, number))


def _parsed(spec: str) -> tuple[str, int]:
    """The kind and the number of a spec, checked."""
    kind, colon, text = spec.partition(":")
    if kind not in ("char", "byte", "word", "word-space", "bpe"):
        raise UnknownNameError("tokenizer", spec, ["char", "byte", "word", "word:4", "word-space:4", "bpe:4096"])
    if kind in ("char", "byte"):
        if colon:
            raise ConfigurationError(f"tokenizer '{kind}' takes no number, got '{spec}'")
        return kind, 0
    least = 257 if kind == "bpe" else 1
    if not colon and kind != "bpe":
        return kind, DEFAULT_WORD_COUNT
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= _MAX_VOCAB_SIZE:
        what = "a vocabulary size" if kind == "bpe" else "a least count"
        raise ConfigurationError(f"tokenizer '{kind}' needs {what} of {least} to {_MAX_VOCAB_SIZE}, got '{spec}'")
    return kind, int(text)


def _characters(texts: Iterable[str]) -> tokenizers.Tokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    entries = [EOT_TEXT, *_BYTE_ENTRIES, *sorted(characters)]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab={entry: token_id for token_id, entry in enumerate(entries)}, merges=[], byte_fallback=True)
    )
    # Nothing merges, so any cut is right; short ones keep the time linear in the length of the text.
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]{1,32}"), "isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _byte_pairs(longer: Sequence[str], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Byte-level BPE: end of text, the 256 bytes, and the `longer` entries that the merges make."""
    entries = [EOT_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet()), *longer]
    vocab = {entry: token_id for token_id, entry in enumerate(entries)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _trained_byte_pairs(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    learner = _byte_pairs([], [])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # The library's trainer would make end-of-text an "added token", which it then finds in text: we add it ourselves.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learned = learner.get_vocab()
    longer = sorted((entry for entry in learned if len(entry) > 1), key=learned.__getitem__)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return _byte_pairs(longer, [(left, right) for left, right in merges])


def _trained_words(
    texts: Iterable[str], splitter: pre_tokenizers.PreTokenizer, least_count: int
) -> tokenizers.Tokenizer:
    learner = tokenizers.Tokenizer(models.WordLevel())
    learner.pre_tokenizer = splitter
    trainer = trainers.WordLevelTrainer(vocab_size=_MAX_VOCAB_SIZE, min_frequency=least_count, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = learner.get_vocab()
    return _words(sorted(learned, key=learned.__getitem__), splitter)


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer whose ids from 1 on are these words, split at white space.

    Words outside the list are encoded as `<unk>` if it is in the list, and refused with a TokenizerError otherwise.
    """
    return Tokenizer(_word_level([EOT_TEXT, *words], pre_tokenizers.WhitespaceSplit()))


def _words(words: Sequence[str], splitter: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    return _word_level([EOT_TEXT, UNKNOWN_TEXT, *(word for word in words if word != UNKNOWN_TEXT)], splitter)


def _word_level(entries: Sequence[str], splitter: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    if EOT_TEXT in entries[1:]:
        raise TokenizerError(f"'{EOT_TEXT}' cannot be a word: it has white space in it")
    vocab = {entry: token_id for token_id, entry in enumerate(entries)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=vocab, unk_token=UNKNOWN_TEXT))
    backend.pre_tokenizer = splitter
    return backend


def _reporting(texts: Iterable[str], on_progress: OnProgress | None) -> Iterator[str]:
    done = 0
    for text in texts:
        yield text
        done += len(text)
        if on_progress:
            on_progress(Progress(done, None, "characters"))
