"""Files from outside: hostile or damaged JSON is refused in one line, before it takes memory or names a path."""

from __future__ import annotations

import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import Predictor, load_corpus
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.errors import CorpusError, LmzooError, SavedModelError, TokenizerError
from lmzoo.system.json_files import check_name, parse_json
from lmzoo.tokenizers import Tokenizer

NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"d_embed": 4, "d_hidden": 4},
    "gpt2": {"d_model": 8, "n_layers": 1, "n_heads": 2},
    "transformer": {"d_model": 8, "n_layers": 1, "n_heads": 2, "ngrams": 2, "n_slots": 16, "d_slot": 4},
    "transformer-2017": {"d_model": 8, "n_layers": 1, "n_heads": 2},
    "low-rank-hmm": {"n_states": 6, "rank": 2, "d_embed": 4},
}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 512345678\n"
TRAINING = {"tokens": 200, "batch_size": 2, "chunk_size": 8}


@pytest.fixture(scope="module")
def networks(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny saved networks."""
    home = tmp_path_factory.mktemp("networks")
    for name, settings in NETWORKS.items():
        Predictor.fit(name, corpus_folder, tokenizer="byte", training=TRAINING, **settings).save(home / name)
    return home


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("name", ["predictor.json", "tokenizer.json", "arrays.safetensors"])
def test_pointers_of_git_lfs_in_a_predictor(name: str, networks: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(networks / "lstm", tmp_path / "cloned")
    (folder / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(LmzooError, match=rf"{name} is a pointer of Git LFS, .* download it with `git lfs pull`"):
        Predictor.load(folder)


def test_pointers_of_git_lfs_are_no_texts_and_no_models(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.parquet", "model.gguf"):
        (tmp_path / name).write_text(POINTER, encoding="utf-8")
    for text in ([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "c.parquet"):
        with pytest.raises(CorpusError, match=r"[ac]\.\w+ is a pointer of Git LFS"):
            load_corpus(text)
    with pytest.raises(SavedModelError, match=r"model\.gguf is a pointer of Git LFS"):
        Predictor.load(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("species", "setting", "size"),
    [
        ("lstm", "d_hidden", 3000),
        ("lstm", "d_hidden", 10**12),
        ("lstm", "d_hidden", 2**62),
        ("lstm", "d_embed", 3_000_000),
        ("lstm", "n_layers", 10**9),
        ("gpt2", "d_model", 16384),
        ("gpt2", "n_layers", 10**9),
        ("gpt2", "window", 10**9),
        ("transformer", "window", 10**9),
        ("transformer", "window", 10**18),
        ("transformer", "n_slots", 10**11),
        ("transformer-2017", "window", 10**10),
        ("low-rank-hmm", "n_states", 10**10),
    ],
)
def test_declared_sizes_are_compared_with_the_arrays(
    species: str, setting: str, size: int, networks: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(networks / species, tmp_path / species)
    edit(home / "predictor.json", lambda saved: saved["settings"].update({setting: size}))
    tracemalloc.start()
    try:
        with pytest.raises(SavedModelError, match=r"settings of the saved|the model needs|lacks the array") as caught:
            Predictor.load(home)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert str(home) in str(caught.value)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(wrong: float, networks: Path, tmp_path: Path) -> None:
    home = shutil.copytree(networks / "gpt2", tmp_path / "gpt2")
    arrays, _ = load_arrays(home / "arrays.safetensors")
    changed = {name: array.copy() for name, array in arrays.items()}
    next(iter(changed.values())).flat[0] = wrong
    save_arrays(home / "arrays.safetensors", changed)
    with pytest.raises(SavedModelError, match="holds NaN or infinity"):
        Predictor.load(home)


DEEP = "[" * 100_000
DESCRIPTIONS: dict[str, tuple[Callable[[Any], object], str]] = {
    "settings": (lambda saved: saved.update(settings=5), "'settings': input should be an object, got 5"),
    "species": (lambda saved: saved.update(species={}), "'species': input should be a valid string, got {}"),
    "number": (lambda saved: saved.update(species=1.5), "'species': input should be a valid string, got 1.5"),
    "null": (lambda saved: saved.update(species=None), "'species': input should be a valid string, got None"),
    "version": (lambda saved: saved.update(format_version="1"), "has format '1'"),
    "no version": (lambda saved: saved.pop("format_version"), "must be an object with the field 'format_version'"),
    "missing": (lambda saved: saved.pop("provenance"), "the field 'provenance' is missing"),
    "seed": (lambda saved: saved["provenance"].update(seed=True), "'provenance.seed': input should be a valid integer"),
    "vocabulary": (lambda saved: saved.update(vocab_size=10**30), "needs more than 64 bits"),
    "infinite": (lambda saved: saved.update(settings={"alpha": float("inf")}), "Infinity is not a finite number"),
    "setting": (lambda saved: saved.update(settings={"alpha": "x"}), "alpha must be"),
    "label": (lambda saved: saved.update(label=[]), "'label': input should be a valid string"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_wrong_types_in_a_predictor_are_named(case: str, saved: Path, tmp_path: Path) -> None:
    home = shutil.copytree(saved, tmp_path / "home")
    change, message = DESCRIPTIONS[case]
    edit(home / "predictor.json", change)
    with pytest.raises(SavedModelError) as caught:
        Predictor.load(home)
    assert message in str(caught.value)
    assert str(home / "predictor.json") in str(caught.value)


@pytest.mark.parametrize("name", ["predictor.json", "tokenizer.json"])
def test_deep_json_is_refused(name: str, saved: Path, tmp_path: Path) -> None:
    home = shutil.copytree(saved, tmp_path / "home")
    (home / name).write_text(DEEP, encoding="utf-8")
    with pytest.raises(LmzooError, match="nested more than 64 deep"):
        Predictor.load(home)


def test_json_limits() -> None:
    assert parse_json("[" * 64 + "]" * 64)
    assert parse_json(f"[{2**63 - 1}, {-(2**63)}, 1e308]") == [2**63 - 1, -(2**63), 1e308]
    for text in ("[" * 66 + "]" * 66, DEEP, str(2**63), "9" * 5000, "NaN", "-Infinity", "1e999", "{", ""):
        with pytest.raises(ValueError):
            parse_json(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\nb", "\x1b[31m", "x" * 201, "ü" * 101])
def test_names_are_single_parts_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


def test_usual_names_are_taken() -> None:
    for name in ("hmm", "hmm,n_states=8", "lstm,training.tokens=5,seed=1", "ppmd-6", "a b", "ü川"):
        assert check_name(name) == name


def _last_id(size: int) -> Callable[[Any], object]:
    def change(description: Any) -> None:
        vocab = description["model"]["vocab"]
        vocab[max(vocab, key=vocab.__getitem__)] = size

    return change


TOKENIZERS: dict[str, tuple[Callable[[Any], object], str]] = {
    "600 million": (_last_id(600_000_000), "id 600000000, but only 300 entries"),
    "3 billion": (_last_id(3_000_000_000), "id 3000000000, but only 300 entries"),
    "a hole": (_last_id(5000), "its 300 ids are not 0 to 299"),
    "padding": (
        lambda saved: saved.update(
            padding={
                "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "x",
            }
        ),
        "'padding' is not null",
    ),
    "growth": (
        lambda saved: saved.update(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60,
            }
        ),
        "more than 100 times as long",
    ),
    "list": (lambda saved: saved.update(model=[]), "with the field 'model'"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOKENIZERS)
def test_declared_sizes_of_tokenizers(case: str, saved: Path, tmp_path: Path) -> None:
    change, message = TOKENIZERS[case]
    shutil.copy(saved / "tokenizer.json", tmp_path / "tokenizer.json")
    edit(tmp_path / "tokenizer.json", change)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(tmp_path / "tokenizer.json")
    assert message in str(caught.value)


def test_a_folder_in_place_of_a_file(saved: Path, tmp_path: Path) -> None:
    home = shutil.copytree(saved, tmp_path / "home")
    (home / "tokenizer.json").unlink()
    (home / "tokenizer.json").mkdir()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Predictor.load(home)
    with pytest.raises(SavedModelError, match="File name too long"):
        load_arrays(tmp_path / ("x" * 300))


def test_help_does_not_import_pydantic() -> None:
    """Help must be fast. cyclopts may import pydantic, but nothing of lmzoo may at import time."""
    import subprocess

    code = "import sys, lmzoo.cli.commands.settings, lmzoo.system.json_files; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
