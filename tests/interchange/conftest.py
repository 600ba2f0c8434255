"""Folders of Hugging Face that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_folders import OTHERS, SIZES, TEXTS, saved_model, stirred

from lmzoo import Predictor, train_tokenizer, zoo


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("others")
    return {name: saved_model(home / name, config(), make()) for name, (config, make, *_) in OTHERS.items()}


@pytest.fixture(scope="module", params=["bpe:300", "char", "word:1"])
def ours(request: pytest.FixtureRequest) -> Predictor:
    tokenizer = train_tokenizer(request.param, TEXTS)
    model = zoo.create("gpt2", tokenizer.vocab_size, **SIZES)
    network = stirred(model.fresh_network(1))
    model.load_arrays({name: part.detach().numpy() for name, part in network.named_parameters()})
    return Predictor(tokenizer, model, "gpt2", SIZES)
