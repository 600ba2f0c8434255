"""The benchmark for graphics cards works from end to end on a CPU, in toy sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
PEER = '''
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool


class GPT(nn.Module):
    """A bigram model with the interface of nanoGPT's class."""

    def __init__(self, config):
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        assert device_type == "cpu"
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def forward(self, ids, targets):
        logits = self.table(ids)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
'''


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=500)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_card_it_says_so_in_one_line() -> None:
    finished = run()
    assert finished.returncode == 0
    assert finished.stdout == "nothing was measured: this machine has no device 'cuda': choose auto, cpu\n" or (
        torch.backends.mps.is_available()
    )
    assert finished.stderr == ""


@pytest.mark.slow
def test_it_measures_everything_in_toy_sizes(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(PEER, encoding="utf-8")
    options = ["--device", "cpu", "--tiny", "--no-compile", "--species", "nplm", "--nanogpt", str(tmp_path)]
    finished = run(*options)
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout.splitlines()[-1])
    assert figures["machine"]["device"] == "cpu"
    assert figures["laws"] == {"nplm": ""}
    assert all(row["ids_per_second"] > 0 for row in figures["speeds"])
    measured = {(row["program"], row["what"]) for row in figures["speeds"]}
    predicted = ("scored", "generated", "generated, 64 at a time")
    assert measured == {
        ("nanoGPT", "trained, bf16, eager"),
        *((name, what) for name in ("gpt2", "transformer") for what in ("trained, bf16, eager", *predicted)),
    }
    assert len(figures["speeds"]) == 2 * len(measured), "both sizes"
    assert "| nanoGPT, 2 x 16, context 8 | trained, bf16, eager |" in finished.stdout
    assert "| nplm | hold |" in finished.stdout
