"""The public conformance battery: the laws that every species keeps, each one a function.

    from lmzoo.testing import check_language_model
    check_language_model(lambda vocab_size: MyModel(vocab_size))

Each law takes a `Specimen` and raises AssertionError with what was broken. With pytest, parametrise over `LAWS` to see
them one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import CorpusError, NotFittedError, SavedModelError, TokenIdError
from lmzoo.generation import generate
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import Progress

Factory = Callable[[int], LanguageModel[Any]]


@dataclass(eq=False)
class Specimen:
    """A species under test: how to make one, the tolerance of its arithmetic, and one that is fitted on toy text."""

    make: Factory
    tolerance: float = 1e-9
    """Largest allowed difference of two log-probabilities in nats: about 1e-9 for float64, 1e-4 for float32."""
    full_support: bool = True
    """False for an exhibit (unsmoothed maximum likelihood) whose card says that it finds things impossible."""
    vocab_size: int = 12

    @cached_property
    def data(self) -> TrainingData:
        return toy_data(self.vocab_size)

    @cached_property
    def fitted(self) -> LanguageModel[Any]:
        return self.make(self.vocab_size).fit(self.data, seed=1)

    def contexts(self) -> list[NDArray[np.int32]]:
        """Empty, short, exactly the context size, longer, unseen; with and without ends of text."""
        size = self.fitted.context_size or 9
        lengths = sorted({0, 1, 2, max(size - 1, 0), size, size + 1, min(3 * size, size + 100)})
        rng = np.random.default_rng(7)
        contexts = [rng.integers(1, self.vocab_size, length, dtype=np.int32) for length in lengths]
        return [*contexts, np.array([3, EOT], np.int32), np.array([3, EOT, 4], np.int32)]

    def same(self, left: Any, right: Any, what: str) -> None:
        np.testing.assert_allclose(left, right, rtol=0, atol=self.tolerance, err_msg=what)


def toy_data(vocab_size: int, n_documents: int = 40, seed: int = 0) -> TrainingData:
    """Documents of a random Markov source, some of them empty or of one token; the last two ids never occur in it."""
    rng = np.random.default_rng(seed)
    used = vocab_size - 2
    transitions = rng.dirichlet(np.full(used, 0.3), size=used)

    def document() -> NDArray[np.int32]:
        length = int(rng.choice([0, 1, 5, 20, 60]))
        ids = [int(rng.integers(1, used))]
        while len(ids) < length:
            ids.append(int(rng.choice(used, p=transitions[ids[-1]])) or 1)
        return np.array(ids[:length], np.int32)

    train = TokenStream.from_documents(document() for _ in range(n_documents))
    return TrainingData(train, TokenStream.from_documents(document() for _ in range(n_documents // 4)))


def boundaries(specimen: Specimen) -> None:
    """Law 1: what follows EOT is a document start; nothing leaks across documents."""
    model = specimen.fitted
    start = model.predict_distribution().log_probs
    specimen.same(model.predict_distribution([5, EOT]).log_probs, start, "after EOT a document starts")
    specimen.same(
        model.predict_distribution([5, 6, EOT, 3]).log_probs,
        model.predict_distribution([3]).log_probs,
        "ids before EOT must not matter",
    )
    state = model.advance(model.advance(model.initial_state(), 5), EOT)
    specimen.same(model.next_log_probs(state), start, "advance over EOT must lead to the initial state")
    first, second = np.array([2, 3, 4, EOT]), np.array([4, 4, EOT])
    joined = model.log_probs(np.concatenate([first, second]))
    alone = np.concatenate([model.log_probs(first), model.log_probs(second)])
    specimen.same(joined, alone, "a document must not change with its neighbours")


def one_truth(specimen: Specimen) -> None:
    """Law 2: streams, batches and single predictions tell the same probabilities."""
    model = specimen.fitted
    ids = np.concatenate([*(np.append(context[context != EOT], EOT) for context in specimen.contexts()), [3, 4]])
    stats = model.token_stats(ids)
    positions = np.unique(np.linspace(0, len(ids) - 1, 80).astype(int))
    for position in positions:
        distribution = model.predict_distribution(ids[:position])
        observed, where = int(ids[position]), f"at position {position} of the stream"
        specimen.same(stats.log_probs[position], distribution.log_prob(observed), f"log_probs {where}")
        close = np.isclose(
            distribution.log_probs, distribution.log_prob(observed), rtol=0, atol=2 * specimen.tolerance
        )  # also where both are -inf
        above = int(np.count_nonzero((distribution.log_probs > distribution.log_prob(observed)) & ~close))
        assert above < stats.ranks[position] <= above + np.count_nonzero(close), f"rank {where}"
        np.testing.assert_allclose(
            stats.entropies[position], distribution.entropy(), atol=10 * specimen.tolerance, err_msg=f"entropy {where}"
        )
    specimen.same(model.log_probs(ids), stats.log_probs, "log_probs and token_stats")
    contexts = specimen.contexts()
    batch = model.next_log_probs_after(contexts)
    assert batch.shape == (len(contexts), specimen.vocab_size)
    for row, context in zip(batch, contexts, strict=True):
        specimen.same(row, model.predict_distribution(context).log_probs, "next_log_probs_after")
    assert model.next_log_probs_after([]).shape == (0, specimen.vocab_size)
    stream, wanted, found = TokenStream(ids), positions[::3].astype(np.intp), []
    for block_positions, block in model.stream_log_probs(stream, wanted):
        observed = stream.ids[block_positions]
        specimen.same(block[np.arange(len(observed)), observed], stats.log_probs[block_positions], "chosen positions")
        found += block_positions.tolist()
    assert sorted(found) == wanted.tolist(), "stream_log_probs must yield each chosen position once"


def window(specimen: Specimen) -> None:
    """Law 3: the walk over any history and the cut to the visible ids agree; ids out of sight change nothing."""
    model = specimen.fitted
    for context in specimen.contexts():
        state = model.initial_state()
        for token_id in context.tolist():
            state = model.advance(state, token_id)
        specimen.same(
            model.next_log_probs(state),
            model.predict_distribution(context).log_probs,
            "advance and predict_distribution",
        )
    if model.context_size is not None:
        seen = np.full(model.context_size, 3)
        changed = [model.log_probs(np.concatenate([[other], seen, [4]]))[-1] for other in (1, 2)]
        specimen.same(changed[0], changed[1], "an id beyond context_size must not matter")
    elif model.reach is not None:
        for n_before in range(model.reach + 1):  # wherever the last window starts
            unseen, seen = [[1] * n_before + [other] for other in (1, 2)], [3] * model.reach
            changed = [model.predict_distribution(np.array([*far, *seen])).log_probs for far in unseen]
            specimen.same(changed[0], changed[1], "an id beyond reach must not matter")


def side_by_side(specimen: Specimen) -> None:
    """States that are advanced together, whatever was read before, are as those that are advanced one by one."""
    model = specimen.fitted
    alone = [model.state_after(model.visible(context)) for context in specimen.contexts()]
    together: Sequence[Any] = list(alone)
    for turn in range(4):
        token_ids = [(turn + row) % specimen.vocab_size for row in range(len(alone))]  # EOT among them
        together = model.advance_batch(together, token_ids)
        alone = [model.advance(state, token_id) for state, token_id in zip(alone, token_ids, strict=True)]
        expected = np.array([model.next_log_probs(state) for state in alone])
        specimen.same(model.next_log_probs_batch(together), expected, "next_log_probs_batch after advance_batch")
        specimen.same([model.next_log_probs(state) for state in together], expected, "next_log_probs of each")
        alone, together = alone[1:], [together[row] for row in range(1, len(together))]
    assert len(model.advance_batch([], [])) == 0
    assert model.next_log_probs_batch([]).shape == (0, specimen.vocab_size)


def normalised(specimen: Specimen) -> None:
    """Law 5: every distribution sums to 1, and every id is possible."""
    model = specimen.fitted
    for context in specimen.contexts():
        log_probs = model.next_log_probs(model.state_after(model.visible(context)))
        assert log_probs.shape == (specimen.vocab_size,)
        assert log_probs.dtype == np.float64
        assert not np.isnan(log_probs).any()
        np.testing.assert_allclose(np.exp(log_probs).sum(), 1, atol=max(1e-9, specimen.tolerance / 10))
        if specimen.full_support:
            assert np.isfinite(log_probs).all(), "every id must have a probability above 0"


def same_seed(specimen: Specimen) -> None:
    """Law 6: the same data and seed give the same model, bit for bit, also on a second fit of the same object."""
    again = specimen.make(specimen.vocab_size).fit(specimen.data, seed=1)
    _equal_arrays(again, specimen.fitted, "same seed, same model")
    _equal_arrays(again.fit(specimen.data, seed=1), specimen.fitted, "a second fit must forget the first")


def resumes(specimen: Specimen) -> None:
    """Law 6: a fit that was interrupted and resumed equals one that was not."""
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


def states_are_values(specimen: Specimen) -> None:
    """`advance` leaves the state that it is given as it was."""
    model = specimen.fitted
    state = model.state_after(np.array([2, 3], np.int32))
    before = model.next_log_probs(state).copy()
    onward = model.next_log_probs(model.advance(state, 4)).copy()
    for token_id in (4, 5, EOT):
        model.next_log_probs(model.advance(state, token_id))
    np.testing.assert_array_equal(model.next_log_probs(state), before, "advance changed an old state")
    np.testing.assert_array_equal(
        model.next_log_probs(model.advance(state, 4)), onward, "advance changed what an old state leads to"
    )


def survives_saving(specimen: Specimen) -> None:
    """What `arrays` holds is all that a model knows, and damaged arrays are refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.safetensors"
        save_arrays(path, specimen.fitted.arrays())
        arrays, _ = load_arrays(path)
        loaded = specimen.make(specimen.vocab_size).load_arrays(arrays)
        for context in specimen.contexts():
            np.testing.assert_array_equal(
                loaded.predict_distribution(context).log_probs,
                specimen.fitted.predict_distribution(context).log_probs,
                "a loaded model must predict as the saved one",
            )
        for name in list(arrays):
            _raises(SavedModelError, specimen, {key: array for key, array in arrays.items() if key != name})
            _raises(SavedModelError, specimen, {**arrays, name: np.zeros((1, 2, 3, 4, 5))})
        del loaded, arrays  # Windows cannot remove a folder with mapped files


def generates_what_it_predicts(specimen: Specimen) -> None:
    """Law 2: samples come from the predicted distribution (chi-square), and end at EOT."""
    model, rng, n_draws = specimen.fitted, np.random.default_rng(3), 1500
    prompt = np.array([2, 3], np.int32)
    drawn = [next(generate(model, prompt, rng=rng)).token_id for _ in range(n_draws)]
    expected = model.predict_distribution(prompt).probs * n_draws
    observed = np.bincount(drawn, minlength=specimen.vocab_size)
    # The chi-square test needs about 5 expected draws in each class: rarer ones are pooled.
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
    assert tokens == list(generate(model, rng=4, max_tokens=200)), "the same seed must give the same text"
    ids = np.array([token.token_id for token in tokens])
    assert EOT not in ids[:-1]
    assert (ids < specimen.vocab_size).all()
    specimen.same([token.log_prob for token in tokens], model.log_probs(ids), "log_prob of sampled tokens")


def refuses_bad_input(specimen: Specimen) -> None:
    """Unfitted use, ids outside the vocabulary and empty data are errors of the right kind."""
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
    assert len(specimen.fitted.token_stats(empty).log_probs) == 0


def learns(specimen: Specimen) -> None:
    """After fit the training text is no more surprising than to a uniform guess, and tiny texts are learned too."""
    uniform = -np.log(specimen.vocab_size)
    assert specimen.fitted.log_probs(specimen.data.train).mean() >= uniform - specimen.tolerance
    for ids in ([EOT], [1, EOT], [1, 1, 1, 1, EOT]):
        tiny = TokenStream(np.array(ids))
        model = specimen.make(specimen.vocab_size).fit(TrainingData(tiny, tiny), seed=0)
        log_probs = model.predict_distribution([1]).log_probs
        assert not np.isnan(log_probs).any()
        assert np.isfinite(log_probs).all() or not specimen.full_support


Law = Callable[[Specimen], None]

LAWS: tuple[Law, ...] = (
    boundaries,
    one_truth,
    window,
    side_by_side,
    normalised,
    same_seed,
    resumes,
    states_are_values,
    survives_saving,
    generates_what_it_predicts,
    refuses_bad_input,
    learns,
)


def check_language_model(make: Factory, *, tolerance: float = 1e-9, full_support: bool = True) -> None:
    """Runs every law on the species that `make(vocab_size)` creates; AssertionError names the broken one."""
    specimen = Specimen(make, tolerance, full_support)
    for law in LAWS:
        try:
            law(specimen)
        except AssertionError as error:
            raise AssertionError(f"law '{law.__name__}' is broken: {error}") from error


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
    raise AssertionError(f"expected {kind.__name__}, and nothing was raised")
