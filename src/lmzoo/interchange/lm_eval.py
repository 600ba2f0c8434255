"""Runs the program of lm-eval with lmzoo's model: `python -m lmzoo.interchange.lm_eval --model lmzoo ...`."""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate

import lmzoo.interchange.lm_eval_model  # noqa: F401 - registers the model

if __name__ == "__main__":
    cli_evaluate()
