"""The title, the licence and the citation of a user's corpus, from the files beside its texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora_on_disk import texts, write

from lmzoo.corpora import load_corpus


@pytest.mark.parametrize(
    ("files", "title", "licence"),
    [
        ({}, None, "not stated"),
        ({"README.md": "# My letters\n\nThey are mine.\n"}, "My letters", "not stated"),
        ({"README.md": "---\nlicense: cc-by-4.0\n---\n\n# Letters #\n"}, "Letters", "cc-by-4.0"),
        ({"README.md": "---\nlicense:\n- mit\n- gpl-3.0\npretty_name: P\n---\n# L\n"}, "P", "mit, gpl-3.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: house\n---\n"}, None, "house"),
        ({"README.md": "---\nlicense: [1, {\n---\n# L\n", "LICENSE": "MIT License\n"}, None, "MIT License"),
        ({"README.md": "---\n- a list\n---\n# L\n"}, "L", "not stated"),
        ({"README.md": b"\xff", "COPYING": "\n===\n  GNU PUBLIC LICENSE \n"}, None, "GNU PUBLIC LICENSE"),
        ({"LICENSE.txt": "A" * 500, "readme.txt": "plain"}, None, "A" * 200 + "..."),
        ({"LICENSE": "\x1b[31mred\n"}, None, "␛[31mred"),
        ({"dataset_info.json": '{"license": "mit"}'}, None, "mit"),
        ({"deep/README.md": "# Of a part\n"}, None, "not stated"),
    ],
)  # fmt: skip
def test_a_folder_describes_its_corpus(
    tmp_path: Path, files: dict[str, str | bytes], title: str | None, licence: str
) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.txt", f"text {number}")
    for name, content in files.items():
        write(tmp_path / name, content)
    corpus = load_corpus(tmp_path)
    assert texts(corpus) == ["text 0", "text 1", "text 2"]
    assert (corpus.title, corpus.licence) == (title or str(tmp_path), licence)


def test_a_folder_of_notices_only_is_a_corpus(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"notice-{number}.txt", f"text {number}")
    assert texts(load_corpus(tmp_path)) == ["text 0", "text 1", "text 2"]
