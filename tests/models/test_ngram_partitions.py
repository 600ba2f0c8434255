"""n-gram models that are fitted in partitions equal those that are fitted in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.ngram import NgramModel, ShardedNgramModel, ngram
from lmzoo.models.ngram.counting.workspace import Workspace
from lmzoo.models.ngram.names import SMOOTHINGS, smoothing_from
from lmzoo.models.ngram.partitions import fitting
from lmzoo.models.ngram.partitions.counting import cut, sort
from lmzoo.models.ngram.partitions.fitting import fit_in_partitions
from lmzoo.models.ngram.partitions.plan import Plan, count_pairs, find_owners, too_frequent
from lmzoo.models.ngram.rare import LONG_TEXT, min_count_for
from lmzoo.models.ngram.reference import count_ngrams as reference_counts
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.executors import Arrays, Stage
from lmzoo.system.progress import Progress, StepProgress
from lmzoo.testing import LAWS, Law, Specimen, toy_data

NOT_TUNED = [name for name, method in SMOOTHINGS.items() if not method.tuned]

streams = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda ids: TokenStream(np.array(ids, np.int32)))


class InThisProcess:
    """An executor without processes and files."""

    n_workers = 1

    def __init__(self) -> None:
        self.freed = 0

    def put(self, arrays: Arrays) -> list[Arrays]:
        return [arrays]

    def get(self, handle: list[Arrays]) -> Arrays:
        return handle[0]

    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[list[Arrays]]]:
        for task in tasks:
            results = stage(*(value[0] if isinstance(value, list) else value for value in task))
            handles = [[dict(result)] for result in results]
            assert len(handles) == n_results
            yield handles

    def free(self, handles: Iterable[list[Arrays]]) -> None:
        for handle in handles:
            handle.clear()
            self.freed += 1


def in_partitions(
    text: TokenStream, vocab_size: int, order: int, smoothing: str, memory: int, min_count: int
) -> dict[str, Any]:
    trie, weights, parameters = fit_in_partitions(
        text, vocab_size, order, smoothing_from(smoothing), InThisProcess(),
        min_count=min_count, memory=memory, workspace=Workspace(), progress=StepProgress(0, None),
    )  # fmt: skip
    return {**trie.arrays(), **weights.arrays(), "parameters": parameters}


def assert_same(
    text: TokenStream, vocab_size: int, order: int, smoothing: str, memory: int, min_count: int = 1
) -> None:
    model = ngram(vocab_size, order=order, smoothing=smoothing, min_count=min_count)
    expected = model.fit(TrainingData(text, text)).arrays()
    found = in_partitions(text, vocab_size, order, smoothing, memory, min_count)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("smoothing", [*NOT_TUNED, "absolute:0.75", "additive:0.1"])
def test_every_smoothing_gives_the_model_of_a_fit_in_memory(smoothing: str, order: int) -> None:
    text = toy_data(40, n_documents=100).train
    assert_same(text, 40, order, smoothing, memory=1 << 16)
    assert_same(text, 40, order, smoothing, memory=1 << 16, min_count=3)


@given(stream=streams, order=st.integers(2, 6), memory=st.sampled_from([200, 2000, 1 << 20]))
@settings(max_examples=40)
def test_every_text_gives_the_model_of_a_fit_in_memory(stream: TokenStream, order: int, memory: int) -> None:
    """Also texts without EOT at the end, and more partitions than tokens."""
    assert_same(stream, 5, order, "kneser-ney", memory)
    assert_same(stream, 5, order, "stupid-backoff", memory)
    assert_same(stream, 5, order, "kneser-ney", memory, min_count=2)


@pytest.mark.parametrize("smoothing", [*SMOOTHINGS, "absolute:0.75"])
def test_rare_ngrams_are_left_out_and_distributions_still_sum_to_1(smoothing: str) -> None:
    text = toy_data(40, n_documents=100).train
    model = ngram(40, order=4, smoothing=smoothing, min_count=3)
    assert isinstance(model, NgramModel)
    arrays = model.fit(TrainingData(text, text)).arrays()
    documents = [document.tolist() for document in text.documents()]
    for k in range(2, 5):
        kept = [gram for gram, n in reference_counts(documents, k, EOT).items() if n >= 3 or k == 2]
        assert arrays["levels"][k + 1] - arrays["levels"][k] == len(kept)
    if smoothing != "mle":
        assert model.largest_sum_error() < 1e-5


def test_the_probability_of_a_rare_ngram_is_given_to_the_shorter_context() -> None:
    """After "a b" came 3 times "c" and once "d", which is rare: 2.25 of 4 stay with "c", and 1.75 go to the context."""
    a, b, c, d = 1, 2, 3, 4
    text = TokenStream.from_documents([[a, b, c]] * 3 + [[a, b, d]])
    model = ngram(5, order=3, smoothing="absolute:0.75", min_count=2).fit(TrainingData(text, text))
    lower = np.exp(model.predict_distribution([d, b]).log_probs)  # "d b" does not occur, so "b" decides
    expected = 1.75 / 4 * lower
    expected[c] += 2.25 / 4
    np.testing.assert_allclose(np.exp(model.predict_distribution([a, b]).log_probs), expected, atol=1e-6)


def test_long_texts_lose_rare_ngrams_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lmzoo")
    assert min_count_for(0, LONG_TEXT) == 1
    assert not caplog.messages
    assert min_count_for(0, LONG_TEXT + 1) == 2
    assert "n-grams of three or more tokens that occur once are left out" in caplog.text
    assert min_count_for(1, LONG_TEXT + 1) == 1


@given(stream=streams, order=st.integers(2, 4))
@settings(max_examples=30)
def test_the_counts_of_a_partition_are_those_of_the_text(stream: TokenStream, order: int) -> None:
    plan = Plan(np.array([0, 1, 0, 1, 0], np.int32), np.empty((0, 5), np.int32), np.zeros(2, np.int64))
    shard = {"ids": np.append(np.int32(EOT), stream.ids)}
    for partition, piece in enumerate(cut(shard, 1, order, plan)):
        results = list(sort(order, 5, smoothing_from("absolute"), plan.split, 1, piece))
        grams: list[tuple[int, ...]] = [(token,) for token in range(5)]
        for k, level in zip(range(2, order + 1), results, strict=False):
            firsts = np.repeat(level["context_tokens"], np.diff(level["starts"]))
            suffixes = [grams[suffix] for suffix in level["suffixes"]]
            expected = reference_counts([document.tolist() for document in stream.documents()], k, EOT)
            expected = {gram: n for gram, n in expected.items() if plan.owners[gram[-2]] == partition}
            of_level = sorted(expected)
            assert suffixes == [gram[1:] for gram in of_level]
            assert level["last"].tolist() == [gram[-1] for gram in of_level]
            assert level["counts"].tolist() == [expected[gram] for gram in of_level]
            assert firsts.tolist() == [gram[0] for gram in of_level]
            contexts = np.repeat(np.arange(level["starts"].size - 1), np.diff(level["starts"]))
            n_different = (
                np.unique([gram[:-1] for gram in of_level], axis=0, return_inverse=True)[1] if of_level else []
            )
            np.testing.assert_array_equal(contexts, np.ravel(n_different))
            grams = of_level


def test_no_partition_is_larger_than_twice_the_mean() -> None:
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, 200_000), 999).astype(np.int32) - 1
    counts = np.bincount(ids, minlength=1000)
    n_partitions = 50
    split = too_frequent(counts, n_partitions)
    assert split.size > 3
    owners = np.zeros(1000, np.int32)
    owners[split] = -1 - np.arange(split.size)
    shard = {"ids": np.append(np.int32(EOT), ids)}
    (pairs,) = count_pairs(shard, 1, 5, owners, split.size)
    assert pairs["counts"].sum() == pytest.approx(counts[split].sum(), abs=1)
    plan = Plan.of(counts, split, pairs["counts"], n_partitions)
    assert plan.split.tolist() == split.tolist()
    found = np.empty(ids.size, np.int32)
    find_owners(shard["ids"], 1, 5, plan.owners, plan.pair_owners, found)
    sizes = np.bincount(found, minlength=n_partitions)
    assert np.abs(sizes - plan.sizes).max() <= 1
    largest_pair = np.unique(ids[1:-1] * 1000 + ids[:-2], return_counts=True)[1].max()
    assert sizes.max() <= max(2 * sizes.mean(), sizes.mean() + largest_pair)


@pytest.mark.parametrize("smoothing", ["kneser-ney-tuned", "jelinek-mercer"])
def test_methods_that_need_the_validation_set_are_refused(smoothing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"smoothing='{smoothing}' cannot be fitted by several workers"):
        ngram(40, smoothing=smoothing, workers=2)


@pytest.mark.parametrize("more", [{}, {"order": 1}, {"prune": 1e-4, "quantise": True, "memory": "100K"}])
def test_a_model_is_fitted_by_worker_processes(more: dict[str, Any]) -> None:
    data = toy_data(40, n_documents=200)
    expected = ngram(40, **more).fit(data).arrays()
    reports: list[Progress] = []
    found = ngram(40, workers=1, **more).fit(data, on_progress=reports.append).arrays()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert {report.total for report in reports} == {done[-1]}


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_model() -> None:
    data = toy_data(40, n_documents=400)
    expected = ngram(40).fit(data).arrays()
    for name, array in ngram(40, workers=3, memory="100K").fit(data).arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits in partitions run in this process, without the start of others; some tokens are split."""
    monkeypatch.setattr(fitting, "executor_for", lambda n_workers, cluster: nullcontext(InThisProcess()))


def test_a_text_larger_than_the_memory_is_fitted_in_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started, since a script without `if __name__ == "__main__":` cannot start any."""
    monkeypatch.setattr("lmzoo.system.executors.ProcessPoolExecutor.submit", None)
    data = toy_data(40, n_documents=80)
    expected = ngram(40, order=3).fit(data).arrays()
    monkeypatch.setattr("lmzoo.models.ngram.model._LEAST_FOR_PARTITIONS", 1000)
    steps: list[str] = []
    found = ngram(40, order=3, memory="2K").fit(data, on_progress=lambda report: steps.append(report.message)).arrays()
    assert "planning partitions" in steps
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    ngram(40, smoothing="kneser-ney-tuned", memory="2K").fit(data)  # which cannot be fitted in partitions


# ---- Sharded models ------------------------------------------------------------------------------


@cache
def sharded_specimen(order: int) -> Specimen:
    return Specimen(lambda vocab_size: ngram(vocab_size, order=order, sharded=True, memory="8K"), tolerance=1e-6)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("order", [2, 4])
def test_a_sharded_model_satisfies_every_law(law: Law, order: int) -> None:
    assert len(sharded_specimen(order).fitted.arrays()["pair_owners"]), "a token is split"
    law(sharded_specimen(order))


@pytest.mark.usefixtures("in_this_process")
@given(stream=streams, order=st.integers(2, 5), memory=st.sampled_from(["200B", "1M"]), min_count=st.integers(1, 3))
@settings(max_examples=25)
def test_a_sharded_model_predicts_as_the_joined_one(
    stream: TokenStream, order: int, memory: str, min_count: int
) -> None:
    data = TrainingData(stream, stream)
    joined = ngram(5, order=order, min_count=min_count).fit(data)
    shards = ngram(5, order=order, memory=memory, min_count=min_count, sharded=True).fit(data)
    text = np.random.default_rng(0).integers(0, 5, 100)
    for end in range(len(text)):
        context = text[max(0, end - 6) : end]
        np.testing.assert_array_equal(
            shards.predict_distribution(context).log_probs, joined.predict_distribution(context).log_probs
        )


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("order", [2, 4])
def test_a_text_is_scored_shard_by_shard(order: int) -> None:
    data = toy_data(40, n_documents=200)
    shards = ngram(40, order=order, memory="1M", sharded=True).fit(data)
    assert isinstance(shards, ShardedNgramModel)
    arrays, tokens = shards.arrays(), np.append(np.int32(EOT), data.valid.ids)
    visited = []
    for positions, _ in shards.stream_log_probs(data.valid):
        visited += arrays["owners"][tokens[positions]].tolist()
    assert len(visited) == len(data.valid)
    whole = [shard for shard in visited if shard >= 0]  # those of tokens that are not split
    assert len(set(whole)) > 1
    assert whole == sorted(whole)
    joined = ngram(40, order=order).fit(data)
    np.testing.assert_array_equal(shards.log_probs(data.valid), joined.log_probs(data.valid))


@pytest.mark.usefixtures("in_this_process")
def test_a_saved_sharded_model_is_memory_mapped_and_checked(tmp_path: Path) -> None:
    data = toy_data(12)
    settings = {"order": 3, "sharded": True, "memory": "2K"}
    model = ngram(12, **settings).fit(data)
    save_arrays(tmp_path / "model", model.arrays())
    arrays = load_arrays(tmp_path / "model")[0]
    loaded = ngram(12, **settings).load_arrays(arrays)
    assert np.shares_memory(loaded.arrays()["3/log_probs"], arrays["3/log_probs"])
    np.testing.assert_array_equal(loaded.log_probs(data.valid), model.log_probs(data.valid))
    assert (arrays["owners"] < 0).any()  # a token is split
    for name, index, value in [
        ("owners", 0, 1000), ("owners", 0, -1000), ("pair_owners", 0, -1), ("unigrams", 0, np.nan), ("2/shards", 1, -1),
        ("3/starts", 1, 10**9), ("3/tokens", 0, 12), ("3/tokens", 0, -1), ("3/log_probs", 0, 0.5),
        ("3/backoffs", 0, np.nan),
    ]:  # fmt: skip
        damaged = arrays[name].copy()
        damaged[index] = value
        with pytest.raises(SavedModelError):
            ngram(12, **settings).load_arrays({**arrays, name: damaged})


@pytest.mark.parametrize("wrong", [{"prune": 1e-5}, {"quantise": True}, {"order": 1}, {"smoothing": "jelinek-mercer"}])
def test_what_a_sharded_model_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ngram(12, sharded=True, **wrong)
