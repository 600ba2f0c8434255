"""Splits of a corpus by the names of its files: which files belong to train, valid and test.

A split word, such as "train", "dev" or "test", counts wherever it stands between other characters than letters, in the
name of a file or of a folder: `ptb.train.txt`, `train-00000-of-00001.jsonl`, `en_dev.txt`, `data/test/part0.jsonl`. In
"latest" there is none. Names that do not decide the split of every file are an error, because a wrong guess would train
a model on its test text.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

import regex

from lmzoo.errors import CorpusError

_HELD_OUT = "held-out"
"""Stands for a word such as "eval" or "heldout", which may name the validation split or the test split."""
_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "devel": "valid",
    "development": "valid",
    "newsdev": "valid",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "devtest": "test",
    "newstest": "test",
    "eval": _HELD_OUT,
    "evaluation": _HELD_OUT,
    "heldout": _HELD_OUT,
    "holdout": _HELD_OUT,
}
_NAMES = ("train", "valid", "test")
_HUMP = regex.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""The boundary between two words of a name such as "wikiTrain"."""
_SPLIT_WORD = regex.compile(rf"(?<!\p{{LC}})({'|'.join(_SPLIT_OF)})(?:set|data|split|file)?(?![\p{{LC}}\p{{M}}])")
"""A split word, which may continue as in "testset", between characters that are not letters of its script."""
_TWO_WORDS = regex.compile(r"(?<!\p{LC})(held|hold)[\W_]out(?![\p{LC}\p{M}])")
_ABOUT_THE_CORPUS = regex.compile(r"(readme|licen[cs]e|copying|notice|changelog|citation|authors)(?!\p{L})")
"""Start of the names of files that describe a corpus and do not belong to its text."""


def splits_by_name(names: Sequence[str], corpus: str) -> list[str | None] | None:
    """Determines the split of each file of a corpus from words such as "train", "dev" and "test" in its name.

    - `names`: the paths of several files, relative to the folder of the corpus.
    - `corpus`: the name of the corpus in error messages.

    Returns "train", "valid" or "test" for each file, or None for a file such as README.txt, which describes the corpus.
    Returns None instead of the list if no name contains such a word. Raises CorpusError if a name contains the words of
    two splits, if only some of the names contain a word, or if a split has no files.
    """
    splits_of_names = _splits_in(names)
    if not any(splits_of_names):
        _check_joined_split_words(names, corpus)
        return None
    for name, splits in zip(names, splits_of_names, strict=True):
        if len(splits) > 1:
            raise CorpusError(
                f"{corpus}: the split of {name} is not clear, because its name has the words of "
                f"{' and '.join(sorted(splits))}: rename the file so that it has one of them"
            )
    split_of = [next(iter(splits), None) for splits in splits_of_names]
    without = [name for name, split in zip(names, split_of, strict=True) if not split and not is_about_a_corpus(name)]
    if without:
        named = [name for name, split in zip(names, split_of, strict=True) if split]
        raise CorpusError(
            f"{corpus}: {listed(named)} {_have(named)} the name of a split (train, valid or test), but "
            f"{listed(without)} {_have(without)} none: rename these files after their splits, or move them away"
        )
    return _complete(names, split_of, corpus)


def listed(names: Sequence[str]) -> str:
    """Joins names to one text. Of more than three names, only their number, the first two and the last are shown."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{len(names):,} files ({names[0]}, {names[1]}, ... {names[-1]})"


def is_about_a_corpus(name: str) -> bool:
    """Returns True if a file with this name, such as README.md or LICENSE, describes a corpus and is not its text."""
    return bool(_ABOUT_THE_CORPUS.match(PurePath(name).name.lower()))


def _splits_in(names: Sequence[str]) -> list[set[str]]:
    """Returns the splits that the name of each file mentions, as sets such as {"train"} for "en_train.txt".

    The names of folders that contain all files are ignored, unless no other part of any name mentions a split.
    """
    shared = os.path.commonpath([PurePath(name).parent for name in names])
    inside = [_splits_of(os.path.relpath(name, shared or ".")) for name in names]
    return inside if any(inside) else [_splits_of(name) for name in names]


def _splits_of(name: str) -> set[str]:
    words = _TWO_WORDS.sub(r"\1out", _HUMP.sub(" ", unicodedata.normalize("NFKC", name)).lower())
    splits = {_SPLIT_OF[match[1]] for match in _SPLIT_WORD.finditer(words)}
    return splits - {_HELD_OUT} if splits & {"valid", "test"} else splits  # "eval/test.txt" is a test file


def _complete(names: Sequence[str], split_of: list[str | None], corpus: str) -> list[str | None]:
    """Replaces the split "held-out" of files by "valid" or "test", and checks that each split has files.

    `split_of` is the split of each file according to its name; it is "held-out" for a name such as "heldout.txt" or
    "eval.txt". These files become the validation set or the test set, whichever has no other files. Raises CorpusError
    if a split has no files, or if both are possible.
    """
    missing = [split for split in _NAMES if split not in split_of]
    held_out = [name for name, split in zip(names, split_of, strict=True) if split == _HELD_OUT]
    if held_out and missing in (["valid"], ["test"]):
        return [missing[0] if split == _HELD_OUT else split for split in split_of]
    if held_out:
        raise CorpusError(
            f"{corpus}: it is not clear whether {listed(held_out)} {'is' if len(held_out) == 1 else 'are'} for "
            f"validation or for test: rename the files so that each has one of the words train, valid and test"
        )
    if missing:
        present = [split for split in _NAMES if split in split_of]
        files = [name for name, split in zip(names, split_of, strict=True) if split]
        raise CorpusError(
            f"{corpus} has a {' and a '.join(present)} split but no {' and no '.join(missing)} split (its files: "
            f"{listed(files)}): add {missing[0]}.txt, or rename the files without these words, so that their text is "
            "divided into the three splits"
        )
    return split_of


def _check_joined_split_words(names: Sequence[str], corpus: str) -> None:
    """Raises CorpusError for file names such as "mytrain.txt" and "mytest.txt".

    They look like the names of two splits, but the words "train" and "test" are recognised only if no letters adjoin
    them.
    """
    known = {name.lower(): name for name in names}
    for name in known:
        for word in _SPLIT_OF:
            other = name.replace("train", word)
            if other != name and other in known and _SPLIT_OF[word] != "train":
                raise CorpusError(
                    f"{corpus}: {known[name]} and {known[other]} look like two splits, but the words train and {word} "
                    "are not separated from other letters: rename the files, for example to train.txt and test.txt"
                )


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
