"""Corpora of the Natural Language Toolkit (NLTK), which locates and downloads them in its own data folders."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.registry import CorpusCard
from lmzoo.corpora.splitting import every_tenth, in_order, passages
from lmzoo.corpora.tags import part_of_speech
from lmzoo.errors import CorpusError
from lmzoo.system.progress import OnProgress, Progress

_BENGIO_TRAIN_WORDS = 800_000
_BENGIO_VALID_WORDS = 200_000
_ENTITY = re.compile(r"&#?\w+;")


# ---- Brown ------------------------------------------------------------------------------------------


def brown_sentences(card: CorpusCard, *, tags: bool = False) -> Splits:
    """Reads the Brown Corpus; each document is a sentence, and "ca01:1" is the first sentence of the file ca01.

    If `tags` is True, each word is replaced by its part of speech.
    """
    documents = []
    for name, paragraphs in _brown_texts(card, tags):
        sentences = [sentence for paragraph in paragraphs for sentence in paragraph]
        documents += [Document(f"{name}:{number}", text) for number, text in enumerate(sentences, start=1)]
    return in_order(documents)


def brown_bengio2003(card: CorpusCard, *, tags: bool = False) -> Splits:
    """Reads the Brown Corpus with the splits of Bengio et al. (2003, section 4.1); each document is a paragraph.

    A paragraph that crosses the end of a split is cut there. If `tags` is True, each word is replaced by its part of
    speech. The corpus has 1,161,192 words in 15,667 paragraphs. The paper counts 1,181,041 tokens, which include
    separators between paragraphs and between files; here, each paragraph is followed by an end-of-text token instead.
    """
    train, valid, test = [], [], []
    start = 0  # of the paragraph, in words
    for name, paragraphs in _brown_texts(card, tags):
        for number, paragraph in enumerate(paragraphs, start=1):
            words = " ".join(paragraph).split(" ")
            for split, first, last in (
                (train, 0, _BENGIO_TRAIN_WORDS),
                (valid, _BENGIO_TRAIN_WORDS, _BENGIO_TRAIN_WORDS + _BENGIO_VALID_WORDS),
                (test, _BENGIO_TRAIN_WORDS + _BENGIO_VALID_WORDS, start + len(words)),
            ):
                inside = words[max(0, first - start) : max(0, last - start)]
                if inside:
                    split.append(Document(f"{name}:{number}", " ".join(inside)))
            start += len(words)
    return Splits(train, valid, test)


def _brown_texts(card: CorpusCard, tags: bool) -> Iterator[tuple[str, list[list[str]]]]:
    """Yields the name and the paragraphs of each file of the Brown Corpus.

    A paragraph is a list of sentences, each a string of tokens (or parts of speech, with `tags`) separated by spaces.
    In the files a line is a sentence, a token is written word/tag, and blank lines separate paragraphs. NLTK's own
    reader gives the same result, but takes eight times as long.
    """
    for name, text in _texts(card, r"c[a-r]\d\d"):
        paragraphs: list[list[str]] = [[]]
        for line in text.split("\n"):
            pairs = [token.rpartition("/") for token in line.split()]
            tokens = [part_of_speech(tag) if tags else word for word, _, tag in pairs]
            if tokens:
                paragraphs[-1].append(" ".join(tokens))
            elif paragraphs[-1]:
                paragraphs.append([])
        yield name, [paragraph for paragraph in paragraphs if paragraph]


# ---- The others -------------------------------------------------------------------------------------


def treebank_articles(card: CorpusCard, *, tags: bool = False) -> Splits:
    """Reads NLTK's Penn Treebank sample; each document is an article, with one sentence per line.

    Traces (tokens with the tag `-NONE-`) are left out. With `tags`, each word is replaced by its part of speech.
    """
    from nltk.corpus.reader import BracketParseCorpusReader

    reader = BracketParseCorpusReader(_root(card, "combined/"), r"wsj_\d{4}\.mrg")
    documents = []
    for file in reader.fileids():
        sentences: Iterable[Any] = reader.tagged_sents(file)
        lines = [
            " ".join(part_of_speech(tag) if tags else str(word) for word, tag in sentence if tag != "-NONE-")
            for sentence in sentences
        ]
        documents.append(Document(file.removesuffix(".mrg"), "\n".join(lines)))
    return every_tenth(documents)


def shakespeare_scenes(card: CorpusCard) -> Splits:
    """Reads NLTK's eight plays by Shakespeare; each document is a scene or a prologue.

    A document has a name such as "hamlet ACT I SCENE II". Its lines are the stage directions, the names of the
    speakers, and the spoken lines.
    """
    documents = [
        Document(f"{play} {act.findtext('TITLE')} {scene.findtext('TITLE').partition('.')[0]}", _scene_text(scene))
        for play, act, scene in _scenes(card)
    ]
    return every_tenth(documents)


def shakespeare_speeches(card: CorpusCard) -> list[list[str]]:
    """Returns the speeches of each scene of NLTK's eight plays by Shakespeare, without the names of the speakers."""
    return [
        [text for speech in scene.iter("SPEECH") if (text := " ".join(map(_line_text, speech.iter("LINE"))).strip())]
        for _, _, scene in _scenes(card)
    ]


def _scenes(card: CorpusCard) -> Iterator[tuple[str, Any, Any]]:
    """Yields the scenes and prologues of all plays: the name of the play, and the XML elements of act and scene."""
    from nltk.corpus.reader import XMLCorpusReader

    reader = XMLCorpusReader(_root(card), r"\w+\.xml")
    for file in reader.fileids():
        play: Any = reader.xml(file)
        for act in play.iter("ACT"):
            for scene in act:
                if scene.tag in ("PROLOGUE", "SCENE"):
                    yield file.removesuffix(".xml"), act, scene


def _scene_text(scene: Any) -> str:
    """Returns the stage directions, names of speakers and spoken lines of a scene, each on a line of its own."""
    lines = (line for element in scene for line in (element if element.tag == "SPEECH" else [element]))
    return "\n".join(map(_line_text, lines))


def _line_text(line: Any) -> str:
    """Returns the text of an XML element, with single spaces."""
    return " ".join("".join(line.itertext()).split())


def reuters_stories(card: CorpusCard) -> Splits:
    """Reads the Reuters-21578 corpus; each document is a news story.

    The test set is the published one; every tenth story of the published training set is for validation.
    """
    training, test = (
        [Document(name, text) for name, text in _texts(card, rf"{split}/\d+", "iso-8859-2")]
        for split in ("training", "test")
    )
    train = [story for position, story in enumerate(training, start=1) if position % 10]
    return Splits(train, training[9::10], test)


def texts(card: CorpusCard) -> Splits:
    """Reads the text files of an NLTK corpus; each document is a file."""
    return every_tenth([Document(name.removesuffix(".txt"), text) for name, text in _texts(card, r".*\.txt")])


def passages_of_texts(card: CorpusCard, *, file: str = "", encoding: str = "latin-1") -> Splits:
    """Reads the texts of an NLTK corpus, and cuts each text into passages, which are the documents.

    Keyword arguments: `file` is the name of the only file to read; empty for all files. `encoding` is used for files
    that are not valid UTF-8. The first 80 % of the passages of each text are for training, the next 10 % for
    validation, the last 10 % for test.
    """
    documents = [
        in_order(passages(name.removesuffix(".txt"), text))
        for name, text in _texts(card, re.escape(file) if file else r".*\.txt", encoding)
    ]
    return Splits(*(list(itertools.chain.from_iterable(split)) for split in zip(*documents, strict=True)))


# ---- NLTK's data folders -----------------------------------------------------------------------------


def is_present(card: CorpusCard) -> bool:
    """Returns True if NLTK finds the corpus on this machine."""
    return _find(card) is not None


def fetch(card: CorpusCard, on_progress: OnProgress | None = None) -> None:
    """Downloads a corpus with NLTK's downloader, which also verifies the file.

    The file is written to the first writable folder of NLTK's search path.
    """
    from nltk.downloader import Downloader, ErrorMessage, ProgressMessage

    try:
        for message in Downloader().incr_download(_package(card)):
            if isinstance(message, ErrorMessage):
                raise ValueError(message.message)
            if isinstance(message, ProgressMessage) and on_progress:
                on_progress(Progress(message.progress * card.size / 100, card.size, "B"))
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"NLTK cannot download '{card.name}': {error}; connect to the network, or put {card.files[0].name} into "
            "the subfolder corpora of the folder that the environment variable NLTK_DATA names"
        ) from error


def _texts(card: CorpusCard, names: str, encoding: str = "latin-1") -> Iterator[tuple[str, str]]:
    """Yields the name and text of every file of a corpus whose name matches the regular expression `names`.

    NLTK's corpora mix encodings, even within one corpus, so a file that is not valid UTF-8 is decoded as `encoding`.
    Character entities such as `&lt;` are replaced by the characters.
    """
    from nltk.corpus.reader.util import find_corpus_fileids

    root = _root(card)
    for name in find_corpus_fileids(root, names):
        with root.join(name).open() as file:
            data: bytes = file.read()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode(encoding)
        yield name, _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _root(card: CorpusCard, folder: str = "") -> Any:
    """Returns NLTK's path pointer to a corpus, or to a folder in it.

    Raises CorpusError if the corpus is not on this machine.
    """
    root = _find(card, folder)
    if root is None:
        raise CorpusError(
            f"the corpus '{card.name}' is not on this machine: run `lmzoo corpus fetch {card.name}` on a machine with "
            "network access, or set the environment variable NLTK_DATA to a folder that contains it"
        )
    return root


def _find(card: CorpusCard, folder: str = "") -> Any:
    import nltk.data

    try:
        return nltk.data.find(f"corpora/{_package(card)}/{folder}")
    except LookupError:
        return None


def _package(card: CorpusCard) -> str:
    return card.files[0].name.removesuffix(".zip")
