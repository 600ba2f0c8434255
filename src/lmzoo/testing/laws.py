"""The laws: properties that every language model must satisfy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import CorpusError, NotFittedError, SavedModelError, TokenIdError, UsageError
from lmzoo.generation import generate
from lmzoo.language_model import LanguageModel, OnlineLearner
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import Progress
from lmzoo.testing.specimen import Factory, Specimen


def boundaries(specimen: Specimen) -> None:
    """Checks that a model predicts after EOT (end of text) as at the start of a document.

    Also checks that documents do not affect each other.
    """
    model = specimen.fitted
    start = model.predict_distribution().log_probs
    specimen.assert_close(
        model.predict_distribution([5, EOT]).log_probs,
        start,
        "the prediction after EOT must be the prediction at a document start",
    )
    specimen.assert_close(
        model.predict_distribution([5, 6, EOT, 3]).log_probs,
        model.predict_distribution([3]).log_probs,
        "ids before EOT must not matter",
    )
    state = model.advance(model.advance(model.initial_state(), 5), EOT)
    specimen.assert_close(model.next_log_probs(state), start, "advance over EOT must lead to the initial state")
    first, second = np.array([2, 3, 4, EOT]), np.array([4, 4, EOT])
    joined = model.log_probs(np.concatenate([first, second]))
    alone = np.concatenate([model.log_probs(first), model.log_probs(second)])
    specimen.assert_close(joined, alone, "predictions in a document must not depend on other documents")
    if model.exact_in_batches:
        token_set = np.arange(specimen.vocab_size) % 2 == 0
        both, *each = (
            model.token_stats(ids, token_set=token_set) for ids in (np.concatenate([first, second]), first, second)
        )
        for name, values in vars(both).items():
            same = np.array_equal(values, np.concatenate([getattr(stats, name) for stats in each]))
            assert same, f"{name}: if exact_in_batches is True, scores must not depend on other documents at all"


def one_truth(specimen: Specimen) -> None:
    """Checks that a model gives the same probabilities in streams, in batches and in single predictions."""
    model = specimen.fitted
    ids = np.concatenate([*(np.append(context[context != EOT], EOT) for context in specimen.contexts()), [3, 4]])
    stats = model.token_stats(ids)
    positions = np.unique(np.linspace(0, len(ids) - 1, 80).astype(int))
    for position in positions:
        distribution = model.predict_distribution(ids[:position])
        observed, where = int(ids[position]), f"at position {position} of the stream"
        specimen.assert_close(stats.log_probs[position], distribution.log_prob(observed), f"log_probs {where}")
        close = np.isclose(
            distribution.log_probs, distribution.log_prob(observed), rtol=0, atol=2 * specimen.tolerance
        )  # also where both are -inf
        above = int(np.count_nonzero((distribution.log_probs > distribution.log_prob(observed)) & ~close))
        assert above < stats.ranks[position] <= above + np.count_nonzero(close), f"rank {where}"
        np.testing.assert_allclose(
            stats.entropies[position], distribution.entropy(), atol=10 * specimen.tolerance, err_msg=f"entropy {where}"
        )
    specimen.assert_close(model.log_probs(ids), stats.log_probs, "log_probs and token_stats")
    contexts = specimen.contexts()
    batch = model.next_log_probs_after(contexts)
    assert batch.shape == (len(contexts), specimen.vocab_size)
    for row, context in zip(batch, contexts, strict=True):
        specimen.assert_close(row, model.predict_distribution(context).log_probs, "next_log_probs_after")
    assert model.next_log_probs_after([]).shape == (0, specimen.vocab_size)
    stream, wanted, found = TokenStream(ids), positions[::3].astype(np.intp), []
    for block_positions, block in model.stream_log_probs(stream, wanted):
        observed = stream.ids[block_positions]
        specimen.assert_close(
            block[np.arange(len(observed)), observed], stats.log_probs[block_positions], "chosen positions"
        )
        found += block_positions.tolist()
    assert sorted(found) == wanted.tolist(), "stream_log_probs must yield each chosen position once"
    token_set = np.arange(specimen.vocab_size) % 3 == 0
    chosen = model.token_stats(ids, positions=wanted, token_set=token_set)
    specimen.assert_close(chosen.log_probs, stats.log_probs[wanted], "token_stats at chosen positions")
    assert chosen.set_log_probs is not None
    specimen.assert_close(
        np.exp(chosen.set_log_probs),
        [np.exp(model.predict_distribution(ids[:position]).log_probs)[token_set].sum() for position in wanted],
        "the probability of a set of tokens",
    )


def window(specimen: Specimen) -> None:
    """Checks that token ids too far back to be visible to the model do not change its prediction.

    Also checks that reading a context id by id gives the prediction for the whole context.
    """
    model = specimen.fitted
    for context in specimen.contexts():
        state = model.initial_state()
        for token_id in context.tolist():
            state = model.advance(state, token_id)
        specimen.assert_close(
            model.next_log_probs(state),
            model.predict_distribution(context).log_probs,
            "advance and predict_distribution",
        )
    if model.context_size is not None:
        seen = np.full(model.context_size, 3)
        changed = [model.log_probs(np.concatenate([[other], seen, [4]]))[-1] for other in (1, 2)]
        specimen.assert_close(changed[0], changed[1], "an id beyond context_size must not matter")
    elif model.reach is not None:
        for n_before in range(model.reach + 1):  # wherever the last window starts
            hidden, seen = [[1] * n_before + [other] for other in (1, 2)], [3] * model.reach
            changed = [model.predict_distribution(np.array([*far, *seen])).log_probs for far in hidden]
            specimen.assert_close(changed[0], changed[1], "an id beyond reach must not matter")


def batches_equal_single_states(specimen: Specimen) -> None:
    """Checks that advancing several states as a batch gives the same predictions as advancing each state alone."""
    model = specimen.fitted
    alone = [model.state_after(model.visible(context)) for context in specimen.contexts()]
    batch: Sequence[Any] = list(alone)
    for step in range(4):
        token_ids = [(step + row) % specimen.vocab_size for row in range(len(alone))]  # EOT among them
        batch = model.advance_batch(batch, token_ids)
        alone = [model.advance(state, token_id) for state, token_id in zip(alone, token_ids, strict=True)]
        expected = np.array([model.next_log_probs(state) for state in alone])
        specimen.assert_close(model.next_log_probs_batch(batch), expected, "next_log_probs_batch after advance_batch")
        specimen.assert_close([model.next_log_probs(state) for state in batch], expected, "next_log_probs of each")
        alone, batch = alone[1:], [batch[row] for row in range(1, len(batch))]
    assert len(model.advance_batch([], [])) == 0
    assert model.next_log_probs_batch([]).shape == (0, specimen.vocab_size)


def normalised(specimen: Specimen) -> None:
    """Checks that every distribution sums to 1 and, for smoothed models, gives no token probability 0."""
    model = specimen.fitted
    for context in specimen.contexts():
        log_probs = model.next_log_probs(model.state_after(model.visible(context)))
        assert log_probs.shape == (specimen.vocab_size,)
        assert log_probs.dtype == np.float64
        assert not np.isnan(log_probs).any()
        np.testing.assert_allclose(np.exp(log_probs).sum(), 1, atol=max(1e-9, specimen.tolerance / 10))
        if specimen.nonzero_probabilities:
            assert np.isfinite(log_probs).all(), "every id must have a probability above 0"


def same_seed(specimen: Specimen) -> None:
    """Checks that training a model twice with the same data and seed gives equal parameters, bit for bit."""
    again = specimen.make(specimen.vocab_size).fit(specimen.data, seed=1)
    _equal_arrays(again, specimen.fitted, "same seed, same model")
    _equal_arrays(again.fit(specimen.data, seed=1), specimen.fitted, "a second fit must start from scratch")


def resumes(specimen: Specimen) -> None:
    """Checks that training that is interrupted and resumed gives the same parameters as uninterrupted training."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "checkpoint.safetensors")
        calls = 0

        def interrupt_later(progress: Progress) -> None:
            nonlocal calls
            calls += 1
            if progress.total and progress.done >= progress.total / 2:
                raise KeyboardInterrupt

        try:
            model = specimen.make(specimen.vocab_size)
            model.fit(specimen.data, seed=1, on_progress=interrupt_later, checkpoint=checkpoint)
        except KeyboardInterrupt:
            model = specimen.make(specimen.vocab_size).fit(specimen.data, seed=1, checkpoint=checkpoint)
        assert calls, "fit must report its progress"
        _equal_arrays(model, specimen.fitted, "an interrupted and resumed fit")


def states_are_not_modified(specimen: Specimen) -> None:
    """Checks that `advance` returns a new state of the model and does not modify the given one."""
    model = specimen.fitted
    state = model.state_after(np.array([2, 3], np.int32))
    before = model.next_log_probs(state).copy()
    onward = model.next_log_probs(model.advance(state, 4)).copy()
    for token_id in (4, 5, EOT):
        model.next_log_probs(model.advance(state, token_id))
    np.testing.assert_array_equal(model.next_log_probs(state), before, "advance changed an old state")
    np.testing.assert_array_equal(
        model.next_log_probs(model.advance(state, 4)), onward, "advance changed the successor of an old state"
    )


def survives_saving(specimen: Specimen) -> None:
    """Checks that a saved and loaded model predicts the same, and that missing or wrong arrays raise an error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.safetensors"
        save_arrays(path, specimen.fitted.arrays())
        arrays, _ = load_arrays(path)
        loaded = specimen.make(specimen.vocab_size).load_arrays(arrays)
        for context in specimen.contexts():
            np.testing.assert_array_equal(
                loaded.predict_distribution(context).log_probs,
                specimen.fitted.predict_distribution(context).log_probs,
                "a loaded model must predict the same as the saved one",
            )
        for name in list(arrays):
            _raises(SavedModelError, specimen, {key: array for key, array in arrays.items() if key != name})
            _raises(SavedModelError, specimen, {**arrays, name: np.zeros((1, 2, 3, 4, 5))})
        del loaded, arrays  # Windows cannot remove a folder with mapped files


def generates_what_it_predicts(specimen: Specimen) -> None:
    """Checks that the tokens that a model generates follow its predicted distributions (chi-square test).

    Also checks that a generated document ends at the first EOT (end of text), and that the same seed gives the same
    text.
    """
    model, rng, n_samples = specimen.fitted, np.random.default_rng(3), 600
    prompt = np.array([2, 3], np.int32)
    sampled = [next(generate(model, prompt, rng=rng)).token_id for _ in range(n_samples)]
    expected = model.predict_distribution(prompt).probs * n_samples
    observed = np.bincount(sampled, minlength=specimen.vocab_size)
    # The chi-square test needs about 5 expected samples in each class, so rarer tokens are pooled.
    rare = expected < 5
    pooled_observed = np.append(observed[~rare], observed[rare].sum())
    pooled_expected = np.append(expected[~rare], expected[rare].sum())
    if pooled_expected[-1] < 5:
        pooled_observed[-2] += pooled_observed[-1]
        pooled_expected[-2] += pooled_expected[-1]
        pooled_observed, pooled_expected = pooled_observed[:-1], pooled_expected[:-1]
    if len(pooled_expected) > 1:
        assert chisquare(pooled_observed, pooled_expected).pvalue > 1e-6, "samples do not follow the prediction"
    tokens = list(generate(model, rng=4, max_tokens=200))
    ids = np.array([token.token_id for token in tokens])
    # The last bits of the log-probabilities may differ, because compiled kernels take over from torch after a while.
    again = [token.token_id for token in generate(model, rng=4, max_tokens=200)]
    assert ids.tolist() == again, "the same seed must give the same text"
    assert EOT not in ids[:-1]
    assert (ids < specimen.vocab_size).all()
    specimen.assert_close([token.log_prob for token in tokens], model.log_probs(ids), "log_prob of sampled tokens")


def refuses_bad_input(specimen: Specimen) -> None:
    """Checks that a model raises the right errors.

    These are the errors for token ids outside the vocabulary, for training data that are empty or of a wrong type, and
    for use before training.
    """
    unfitted = specimen.make(specimen.vocab_size)
    _raises_from(NotFittedError, lambda: unfitted.predict_distribution())
    _raises_from(NotFittedError, lambda: unfitted.token_stats([1]))
    for bad in (specimen.vocab_size, -1):
        _raises_from(TokenIdError, lambda bad=bad: specimen.fitted.predict_distribution([1, bad]))
        _raises_from(TokenIdError, lambda bad=bad: specimen.fitted.log_probs([1, bad]))
        _raises_from(TokenIdError, lambda bad=bad: specimen.fitted.next_log_probs_after([[1, bad]]))
        stream = TokenStream(np.array([1, bad, EOT]))
        _raises_from(TokenIdError, lambda stream=stream: unfitted.fit(TrainingData(stream, stream)))
    empty = TokenStream(np.empty(0, np.int32))
    _raises_from(CorpusError, lambda: unfitted.fit(TrainingData(empty, specimen.data.valid)))
    not_data: Any = specimen.data.train
    _raises_from(UsageError, lambda: unfitted.fit(not_data))
    assert len(specimen.fitted.token_stats(empty).log_probs) == 0


def learns(specimen: Specimen) -> None:
    """Checks that a trained model predicts its training text no worse than the uniform distribution.

    It also checks that training on texts of one to five tokens gives valid distributions.
    """
    uniform = -np.log(specimen.vocab_size)
    assert specimen.fitted.log_probs(specimen.data.train).mean() >= uniform - specimen.tolerance
    for ids in ([EOT], [1, EOT], [1, 1, 1, 1, EOT]):
        tiny = TokenStream(np.array(ids))
        model = specimen.make(specimen.vocab_size).fit(TrainingData(tiny, tiny), seed=0)
        log_probs = model.predict_distribution([1]).log_probs
        assert not np.isnan(log_probs).any()
        assert np.isfinite(log_probs).all() or not specimen.nonzero_probabilities


def learns_after_every_token(specimen: Specimen) -> None:
    """Checks the predictions of a model that learns after every token; models that cannot do so pass.

    The prediction of a token must depend only on the tokens before it, and the probabilities of all tokens that can
    follow the same text must sum to 1. A trained model must not be changed.
    """
    model = specimen.fitted
    if not isinstance(model, OnlineLearner):
        return

    def log_probs_of_new_model(ids: NDArray[np.int32]) -> NDArray[np.float64]:
        new = specimen.make(specimen.vocab_size)
        assert isinstance(new, OnlineLearner)
        return new.online_log_probs(ids)

    before = model.predict_distribution([2, 3]).log_probs
    text = specimen.data.train.ids[:100]
    log_probs = model.online_log_probs(text)
    for length in (0, 1, 2, 9, 30, 99):
        endings = [np.append(text[:length], token_id) for token_id in range(specimen.vocab_size)]
        rows = np.array([log_probs_of_new_model(ids) for ids in endings])  # (V, T)
        specimen.assert_close(rows[:, :-1], np.tile(log_probs[:length], (len(rows), 1)), "later tokens must not matter")
        np.testing.assert_allclose(np.exp(rows[:, -1]).sum(), 1, atol=max(1e-9, specimen.tolerance / 10))
        assert np.isfinite(rows[:, -1]).all() or not specimen.nonzero_probabilities
    np.testing.assert_array_equal(model.predict_distribution([2, 3]).log_probs, before, "the trained model has changed")
    _raises_from(TokenIdError, lambda: model.online_log_probs([1, specimen.vocab_size]))
    assert model.online_log_probs([]).shape == (0,)


Law = Callable[[Specimen], None]

LAWS: tuple[Law, ...] = (
    boundaries,
    one_truth,
    window,
    batches_equal_single_states,
    normalised,
    same_seed,
    resumes,
    states_are_not_modified,
    survives_saving,
    generates_what_it_predicts,
    refuses_bad_input,
    learns,
    learns_after_every_token,
)


def check_language_model(make: Factory, *, tolerance: float = 1e-9, nonzero_probabilities: bool = True) -> None:
    """Runs tests that every language model must pass; raises AssertionError that names the first failed test.

    `make(vocab_size)` returns an untrained model. `tolerance` is the largest allowed difference of log-probabilities in
    nats. `nonzero_probabilities` is False for unsmoothed models, which may give a token probability 0.
    """
    specimen = Specimen(make, tolerance, nonzero_probabilities)
    for law in LAWS:
        try:
            law(specimen)
        except AssertionError as error:
            raise AssertionError(f"the model violates the law '{law.__name__}': {error}") from error


def _equal_arrays(left: LanguageModel[Any], right: LanguageModel[Any], what: str) -> None:
    assert left.arrays().keys() == right.arrays().keys(), what
    for name, array in left.arrays().items():
        np.testing.assert_array_equal(array, right.arrays()[name], f"{what}: array '{name}'")


def _raises(kind: type[Exception], specimen: Specimen, arrays: dict[str, NDArray[Any]]) -> None:
    _raises_from(kind, lambda: specimen.make(specimen.vocab_size).load_arrays(arrays))


def _raises_from(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, but no exception was raised")
