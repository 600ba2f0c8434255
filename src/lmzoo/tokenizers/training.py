"""Training of tokenizers, chosen by a specification: char | byte | word[:N] | word-space[:N] | bpe:SIZE.

A specification may also name a tokenizer that is trained already; see `lmzoo.tokenizers.opening`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from lmzoo.checks import one_or_several
from lmzoo.errors import ConfigurationError, TokenizerError, UnknownNameError
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers.byte_alphabet import BYTE_CHARACTERS
from lmzoo.tokenizers.opening import KINDS, check_is_str, open_tokenizer
from lmzoo.tokenizers.tokenizer import EOT_TEXT, UNKNOWN_TEXT, Tokenizer, valid_text
from lmzoo.tokenizers.words import SEPARATED, split_words

DEFAULT_WORD_COUNT = 2
"""How often a word must occur in the training text to enter the vocabulary, if the specification gives no number."""
_BYTE_ENTRIES = [f"<0x{byte:02X}>" for byte in range(256)]
_MAX_VOCAB_SIZE = 10_000_000
_LONGEST_RUN = 1000
# Each alternative begins at the start of a run, so that a search reads no character twice.
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_LONGEST_RUN + 1},}}|(?<!\s)\s{{{_LONGEST_RUN + 1},}}")


def check_tokenizer(spec: str) -> None:
    """Checks a tokenizer specification such as "bpe:4096".

    Raises UnknownNameError for an unknown kind of tokenizer, ConfigurationError for a wrong number, and the errors of
    `open_tokenizer` for a tokenizer that cannot be opened.
    """
    if open_tokenizer(spec) is None:
        _parsed(spec)


def train_tokenizer(
    spec: str,
    texts: str | Iterable[str],
    *,
    vocabulary: Iterable[str] | None = None,
    n_characters: int | None = None,
    on_progress: OnProgress | None = None,
) -> Tokenizer:
    """Trains a tokenizer on one text or several; `spec` names its kind and, after a colon, a number.

    | spec           | tokens                                                                             |
    |----------------|------------------------------------------------------------------------------------|
    | `char`         | the characters of the texts; other characters are encoded as their UTF-8 bytes     |
    | `byte`         | the 256 bytes; the id of a byte is its value + 1                                   |
    | `word:4`       | words and punctuation that occur at least 4 times (default 2); others are `<unk>`  |
    | `word-space:4` | like `word:4`, but the words are what stands between NUL, tab, line end and space  |
    | `bpe:4096`     | byte-pair encoding with 4,096 entries, or fewer if the texts are too short         |

    Nothing is trained if `spec` names a tokenizer that exists: the path to a `tokenizer.json` or to a folder that holds
    one, or an encoding of tiktoken, such as "tiktoken:cl100k_base" (see `open_tokenizer`, also for its errors).

    `lmzoo.tokenizers.words` defines the words of both kinds; those of `word-space` are the words of KenLM's `lmplz`. If
    a `vocabulary` is given, it replaces the trained word list, and text is split as by `word-space`. `n_characters` is
    the total length of `texts` for reports of progress; it is needed only if `texts` is not a sequence. Raises
    UnknownNameError for an unknown kind, ConfigurationError for a wrong number, UsageError for a text that is no str,
    and TokenizerError for a text that UTF-8 cannot encode, or a word of the vocabulary that no text can produce.
    """
    check_is_str(spec)
    if vocabulary is not None and not spec.startswith("word"):
        raise ConfigurationError(f"a fixed vocabulary needs a word tokenizer (word or word-space), got '{spec}'")
    if opened := open_tokenizer(spec):
        return opened.tokenizer
    kind, number = _parsed(spec)
    texts = one_or_several(texts)
    if on_progress and n_characters is None and isinstance(texts, Sequence):
        n_characters = sum(len(valid_text(text)) for text in texts)
    texts = _reporting(map(valid_text, texts), n_characters, on_progress, f"training the tokenizer {spec}")
    if vocabulary is not None:
        words = [*dict.fromkeys(map(valid_text, one_or_several(vocabulary)))]
        _check_separated(words)
        return Tokenizer(_words(words, _separated()), spec)
    if kind == "char":
        return Tokenizer(_characters(texts))
    if kind == "byte":
        return Tokenizer(_byte_pairs(BYTE_CHARACTERS, [], []))
    if kind == "bpe":
        return Tokenizer(_trained_byte_pairs(texts, number))
    splitter = _separated() if kind == "word-space" else pre_tokenizers.Whitespace()
    return Tokenizer(_trained_words(texts, splitter, number), f"{kind}:{number}")


def _parsed(spec: str) -> tuple[str, int]:
    """Splits a tokenizer specification into its kind and number, and checks both."""
    kind, colon, text = spec.partition(":")
    if kind not in KINDS:
        examples = ["char", "byte", "word", "word:4", "word-space:4", "bpe:4096", "tiktoken:cl100k_base"]
        raise UnknownNameError("tokenizer", spec, examples)
    if kind in ("char", "byte"):
        if colon:
            raise ConfigurationError(f"tokenizer '{kind}' takes no number, got '{spec}'")
        return kind, 0
    least = 257 if kind == "bpe" else 1
    if not colon and kind != "bpe":
        return kind, DEFAULT_WORD_COUNT
    digits = text.lstrip("0")[:20]  # int() refuses thousands of digits; a number of 20 digits is too large already
    if not text.isascii() or not text.isdigit() or not least <= int(digits or "0") <= _MAX_VOCAB_SIZE:
        what, example = ("a vocabulary size", "bpe:4096") if kind == "bpe" else ("a smallest word count", f"{kind}:2")
        raise ConfigurationError(
            f"tokenizer '{kind}' needs {what} from {least} to {_MAX_VOCAB_SIZE}, as in '{example}'; got '{spec}'"
        )
    return kind, int(digits)


def _characters(texts: Iterable[str]) -> tokenizers.Tokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    entries = [EOT_TEXT, *_BYTE_ENTRIES, *sorted(characters)]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab={entry: token_id for token_id, entry in enumerate(entries)}, merges=[], byte_fallback=True)
    )
    # Without merges, any split gives the same tokens; short pieces keep the time linear in the length of the text.
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]{1,32}"), "isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _byte_pairs(
    byte_entries: Sequence[str], merged: Sequence[str], merges: list[tuple[str, str]]
) -> tokenizers.Tokenizer:
    """Builds a byte-level BPE tokenizer.

    - `byte_entries`: the vocabulary entries of the bytes.
    - `merged`: the entries that the merges create, in the order of their ids.
    - `merges`: the pairs of entries that are merged, in the order of their application.
    """
    entries = [EOT_TEXT, *byte_entries, *merged]
    vocab = {entry: token_id for token_id, entry in enumerate(entries)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _trained_byte_pairs(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    alphabet = sorted(BYTE_CHARACTERS)
    learner = _byte_pairs(alphabet, [], [])
    # The library's trainer would add EOT as an "added token" and recognise its spelling in texts, so it is added here.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator((part for text in texts for part in _cut_long_runs(text)), trainer)
    learned = learner.get_vocab()
    merged = sorted((entry for entry in learned if len(entry) > 1), key=learned.__getitem__)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return _byte_pairs(alphabet, merged, [(left, right) for left, right in merges])


def _cut_long_runs(text: str) -> Iterator[str]:
    """Cuts a text inside very long words and very long stretches of white space, after each 1,000 characters.

    Yields the consecutive parts of the text. This limits the time for learning byte pairs, which grows with the square
    of the length of the longest word or stretch of white space.
    """
    start = 0
    for run in _LONG_RUN.finditer(text):
        for cut in range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN):
            yield text[start:cut]
            start = cut
    yield text[start:]


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
    """Returns a tokenizer that splits text into words at white space, and gives `words` the ids 1, 2, 3, ...

    Words outside the list are encoded as `<unk>` if the list contains `<unk>`; otherwise encoding them raises
    TokenizerError. Raises TokenizerError for a word that is empty, contains a separator or occurs twice.
    """
    _check_separated(words)
    if len(set(words)) < len(words):
        twice = next(word for index, word in enumerate(words) if word in words[:index])
        raise TokenizerError(f"the vocabulary has the word {twice!r} twice: remove one of them")
    return Tokenizer(_word_level([EOT_TEXT, *words], _separated()))


def _check_separated(words: Iterable[str]) -> None:
    """Raises TokenizerError for a word that is empty or contains a separator, such as a space."""
    for word in words:
        if split_words(word) != [word]:
            raise TokenizerError(
                f"the vocabulary has the word {word!r}, which no text can produce: a word must not be empty or contain "
                "NUL, tab, line feed, carriage return or space"
            )


def _words(words: Sequence[str], splitter: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    return _word_level([EOT_TEXT, UNKNOWN_TEXT, *(word for word in words if word != UNKNOWN_TEXT)], splitter)


def _separated() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(SEPARATED), "removed", invert=True)


def _word_level(entries: Sequence[str], splitter: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    vocab = {entry: token_id for token_id, entry in enumerate(entries)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=vocab, unk_token=UNKNOWN_TEXT))
    backend.pre_tokenizer = splitter
    return backend


def _reporting(texts: Iterable[str], total: int | None, on_progress: OnProgress | None, message: str) -> Iterator[str]:
    done = 0
    for text in texts:
        yield text
        done += len(text)
        if on_progress:
            on_progress(Progress(done, total, "characters", message))
