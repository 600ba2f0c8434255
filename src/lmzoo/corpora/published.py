"""Readers of the corpora that are downloaded, with the documents and splits that their papers use."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.downloads import read_file
from lmzoo.corpora.registry import CorpusCard

_STORY_END = "<|endoftext|>"
_ARTICLE_TITLE = re.compile(r"^ = (?!=)(.+)(?<!=) = $", re.MULTILINE)


def one_text(card: CorpusCard, *, ends: Sequence[float]) -> Splits:
    """Reads a corpus that is one text, and divides it into splits; each split is one document.

    `ends` are the ends of the training and validation splits, as fractions of the characters of the text. If `ends` has
    only one number, there is no test split, and the validation split is also used as the test split.
    """
    text = read_file(card, card.files[0]).decode()
    cuts = [0, *(int(len(text) * end) for end in ends), len(text)]
    splits = [
        [Document(name, text[start:end])]
        for name, start, end in zip(("train", "valid", "test"), cuts[:-1], cuts[1:], strict=False)
    ]
    return Splits(splits[0], splits[1], splits[-1])


def lines(card: CorpusCard) -> Splits:
    """Reads a corpus of three files, for train, valid and test; each document is a line."""
    return Splits(
        *(
            [
                Document(f"{file.name}:{number}", line.strip())
                for number, line in enumerate(read_file(card, file).decode().split("\n"), start=1)
                if line
            ]
            for file in card.files
        )
    )


def byte_runs(card: CorpusCard, *, ends: Sequence[int], run: int) -> Splits:
    """Reads a corpus that is one text in a zip archive, and cuts it into documents of `run` bytes each.

    `ends` are the positions, in bytes, at which the training and validation splits end. Published results treat each
    split as one stream. Separate documents can be tokenised one at a time, but each adds one end-of-text token.
    """
    data = _members(card)[card.name]
    starts = range(0, len(data), run)
    cuts = [*(_character_start(data, start) for start in starts), len(data)]
    documents = [
        Document(f"{card.name}:{start}", data[cut:end].decode())
        for start, cut, end in zip(starts, cuts[:-1], cuts[1:], strict=True)
    ]
    valid, test = (end // run for end in ends)
    return Splits(documents[:valid], documents[valid:test], documents[test:])


def _character_start(data: bytes, position: int) -> int:
    """Returns the first position at or after the given one that is not inside a UTF-8 character."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position += 1
    return position


def wikitext_articles(card: CorpusCard) -> Splits:
    """Reads a WikiText corpus of raw characters; each document is an article, unchanged."""
    return Splits(*_wikitext(card))


def wikitext_words(card: CorpusCard) -> Splits:
    """Reads a WikiText corpus of words; each document is an article with the word `<eos>` at every line end.

    Published results count words in this way.
    """
    return Splits(
        *([Document(article.name, _words_of_lines(article.text)) for article in split] for split in _wikitext(card))
    )


def _words_of_lines(text: str) -> str:
    return " ".join(word for line in text.removesuffix("\n").split("\n") for word in (*line.split(), "<eos>"))


def _wikitext(card: CorpusCard) -> Iterator[list[Document]]:
    """Yields the articles of each split of a WikiText corpus, in the order train, valid, test.

    An article starts with its title, on a line ` = Title = `.
    """
    members = _members(card)
    for split in Splits._fields:
        text = next(data for name, data in members.items() if f"/wiki.{split}." in name).decode()
        titles = list(_ARTICLE_TITLE.finditer(text))
        starts = [0, *(title.start() for title in titles[1:]), len(text)]
        yield [
            Document(f"{split}: {title.group(1)}", text[start:end])
            for title, start, end in zip(titles, starts[:-1], starts[1:], strict=True)
        ]


def stories(card: CorpusCard) -> Splits:
    """Reads a corpus of stories in two files, for training and validation; each document is a story.

    The published validation set is the test split here; the last hundredth of the training set is the validation split.
    """
    training, published_valid = (
        [
            Document(f"{file.name}:{number}", story.strip())
            for number, story in enumerate(read_file(card, file).decode().split(_STORY_END), start=1)
            if story.strip()
        ]
        for file in card.files
    )
    n_train = len(training) - len(training) // 100
    return Splits(training[:n_train], training[n_train:], published_valid)


def _members(card: CorpusCard) -> dict[str, bytes]:
    """Returns the contents of the files in the zip archive of a corpus, after verifying its checksum."""
    with zipfile.ZipFile(io.BytesIO(read_file(card, card.files[0]))) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
