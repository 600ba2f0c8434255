"""Surprisals under a GPT-2 folder equal those of minicons and wordsprobability, if these packages are installed.

Neither is among the development dependencies: minicons needs an older pandas. To run these tests, install both without
their dependencies: pip install --no-deps minicons pillow wonderwords wordsprobability
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from huggingface_folders import byte_pairs, gpt2_config, saved_model

from lmzoo import Predictor
from lmzoo.evaluation.surprisals import surprisal_table
from lmzoo.tokenizers.alignment import Aligner

SENTENCES = ["The cats that I saw were near the river.", "The kings saw anthropoids in a matron's hat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights, which transformers opens with its tokenizer."""
    home = saved_model(tmp_path_factory.mktemp("peers") / "gpt2", gpt2_config(n_positions=64), byte_pairs(300))
    tokenizer = transformers.GPT2TokenizerFast(
        tokenizer_object=byte_pairs(300), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(home)
    return home


def separating_ids(folder: Path) -> list[int]:
    """The ids, as transformers numbers them, of the tokens before which a word ends: with white space, and EOT."""
    aligner = Aligner(Predictor.load(folder).tokenizer)
    swap = {0: 299, 299: 0}  # lmzoo exchanges id 0 with that of end-of-text
    return [swap.get(token_id, token_id) for token_id in np.flatnonzero(aligner.ends_word).tolist()]


@pytest.fixture(scope="module")
def minicons(folder: Path) -> Any:
    scorer = pytest.importorskip("minicons.scorer", reason="minicons is not installed")
    return scorer.IncrementalLMScorer(str(folder), "cpu")


def test_tokens_equal_those_of_minicons(folder: Path, minicons: Any) -> None:
    table = surprisal_table(str(folder), SENTENCES, by="token")
    scored = minicons.token_score(SENTENCES, bos_token=True, surprisal=True, base_two=True)
    expected = [bits for sentence in scored for _, bits in sentence[1:]]  # the first one is <|endoftext|>
    np.testing.assert_allclose(table["surprisal"], expected, rtol=0, atol=1e-4)
    _, ranks = minicons.compute_stats(minicons.prepare_text(SENTENCES, bos_token=True), rank=True)
    assert table["rank"].tolist() == [rank for sentence in ranks for rank in sentence]


def test_sums_of_words_equal_those_of_minicons(folder: Path, minicons: Any) -> None:
    table = surprisal_table(str(folder), SENTENCES)
    scored = minicons.word_score_tokenized(
        SENTENCES, str.split, bos_token=True, surprisal=True, base_two=True
    )  # fmt: skip
    assert table["word"].tolist() == [word for sentence in scored for word, _ in sentence]
    np.testing.assert_allclose(table["sum"], [bits for sentence in scored for _, bits in sentence], rtol=0, atol=1e-4)


def test_corrected_words_equal_those_of_minicons(folder: Path, minicons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # minicons lets a word end before a space only; here, also before other white space and at the end of the text.
    monkeypatch.setattr(minicons, "bow_subword_idx", separating_ids(folder))
    table = surprisal_table(str(folder), SENTENCES)
    scored = minicons.word_score_tokenized(
        SENTENCES, str.split, bow_correction=True, bos_token=True, surprisal=True, base_two=True
    )  # fmt: skip
    found = table["corrected"].copy()
    first = table["position"] == 1
    # minicons does not correct the start of a text, which is the same for both sentences.
    expected = np.array([bits for sentence in scored for _, bits in sentence])
    np.testing.assert_allclose(found[~first], expected[~first], rtol=0, atol=1e-4)
    shift = expected[first] - found[first]
    assert shift[0] == pytest.approx(shift[1], abs=1e-4)
    assert shift[0] > 0


def test_corrected_words_equal_those_of_wordsprobability(folder: Path) -> None:
    """The program of Pimentel and Meister (2024), which corrects the start of a text, too."""
    bow_lm = pytest.importorskip("wordsprobability.models.bow_lm", reason="wordsprobability is not installed")
    main = pytest.importorskip("wordsprobability.main", reason="wordsprobability is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")

    class Gpt2InAFolder(bow_lm.GPT2BaseModel):
        model_name = str(folder)

    model = Gpt2InAFolder()
    white = [token_id for token_id in separating_ids(folder) if token_id != 299]
    # By itself, it knows only spaces between words.
    model.vocab_masks["bow"][white] = 1
    model.vocab_masks["punct"][:] = 0  # punctuation belongs to the middle of words,
    model.vocab_masks["mid"] = 1 - model.vocab_masks["bow"] - model.vocab_masks["eos"]  # and EOT is counted once
    for sentence in SENTENCES:
        results, offsets = model.get_predictions(sentence)
        frame = pandas.DataFrame(results).assign(text_id=0, offsets=offsets)
        frame["is_bow"] = frame["subword"].str.startswith("Ġ")
        frame = main.mark_eow_subwords(main.mark_bos_subwords(frame))
        nats = (
            frame["surprisal"]
            - frame["bow_fix"] * frame["is_bow"]
            - frame["bos_fix"] * frame["is_bos"]
            + frame["eow_fix"] * frame["is_eow"].astype(bool)
        )
        expected = nats.groupby(frame["is_bow"].cumsum()).sum() / np.log(2)
        table = surprisal_table(str(folder), sentence)
        np.testing.assert_allclose(table["corrected"], expected, rtol=0, atol=1e-4)
