"""Mixture of language models (Jelinek & Mercer 1980): linear interpolation of the predictions of several models.

    P(w | h) = sum_m weight_m P_m(w | h)

Linear interpolation was first used between the orders of a trigram model (F. Jelinek, R. L. Mercer, Interpolated
Estimation of Markov Source Parameters from Sparse Data, 1980), and later to combine different kinds of models, which
make different errors: Bengio et al. 2003 (table 1) report the best results for the average of their neural model and a
trigram. The weights maximise the likelihood of the validation set, and are found by Newton's method.

What a mixture cannot do: prefer different members after different contexts. The weights are always the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.mixing import add_prefix, bands, create_member, learn_weights, read_band, strip_prefix
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.training_history import TrainingHistory, in_member


def _largest(sizes: Sequence[int | None]) -> int | None:
    """Returns the largest of some context sizes; None stands for unlimited and is the largest."""
    return None if None in sizes else max(size for size in sizes if size is not None)


def _with_name(name: str, on_progress: OnProgress | None) -> OnProgress:
    """Returns a progress callback that adds the name of a member to each message and calls `on_progress`."""

    def report(progress: Progress) -> None:
        if on_progress:
            message = f"{name}: {progress.message}" if progress.message else name
            step = progress.step and in_member(progress.step, name)
            on_progress(replace(progress, message=message, step=step))

    return report


@final
class MixtureModel(LanguageModel[tuple[Any, ...]]):
    """A mixture of language models, with a weight for each member model.

    `members` are the models by name. To mix models that are fitted already, learn only the weights:
    `MixtureModel({"ngram": a, "lstm": b}).learn_weights(valid)`. `settings` is any description of the members. It is
    stored in checkpoints, and `fit` resumes only from a checkpoint with the same description. The state of the mixture
    is the tuple of the members' states.
    """

    def __init__(self, members: Mapping[str, LanguageModel[Any]], *, settings: Any = None) -> None:
        if not members:
            raise ConfigurationError("a mixture needs at least one member, got none")
        sizes = {name: member.vocab_size for name, member in members.items()}
        if len(set(sizes.values())) > 1:
            raise ConfigurationError(
                f"the members of a mixture must have the same vocabulary, but their sizes are {sizes}"
            )
        super().__init__(next(iter(sizes.values())))
        self.members = dict(members)
        self._settings = settings
        self.context_size = _largest([member.context_size for member in members.values()])
        self.adapts_on_test = any(member.adapts_on_test for member in members.values())

    @property
    def reach(self) -> int | None:
        """The largest number of last tokens on which a prediction of any member can depend; None = unlimited."""
        return _largest([member.reach for member in self.members.values()])

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        facts = [list(self.members), self._settings, self.vocab_size, seed]
        fingerprint = data.fingerprint(facts) if checkpoint else ""
        kept, progress = (checkpoint.load(fingerprint) if checkpoint else None) or ({}, {"finished": [], "history": []})
        finished: list[str] = progress["finished"]
        history = TrainingHistory.from_lines(progress["history"]).points
        for name, member in self.members.items():
            # During its fit, a member has a checkpoint file; after it, the mixture's checkpoint contains the member.
            member_checkpoint = Checkpoint(checkpoint.path.with_suffix(f".{name}.safetensors")) if checkpoint else None
            if name in finished:
                member.load_arrays(strip_prefix(name, kept))
                if member_checkpoint:
                    member_checkpoint.discard()
                continue
            member.fit(data, seed=seed, on_progress=_with_name(name, on_progress), checkpoint=member_checkpoint)
            finished.append(name)
            if member.history:
                history += tuple(in_member(point, name) for point in member.history.points)
            if checkpoint and member_checkpoint:
                facts = {"fingerprint": fingerprint, "finished": finished}
                checkpoint.save(self._arrays_of(finished), {**facts, "history": [*TrainingHistory(history).lines()]})
                member_checkpoint.discard()
        self.history = TrainingHistory(history) if history else None
        return self.learn_weights(data.valid, on_progress)

    def learn_weights(self, valid: TokenStream, on_progress: OnProgress | None = None) -> Self:
        """Learns the mixture weights of the member models, which are already fitted.

        The weights maximise the likelihood of the validation set `valid`.
        """
        columns = []
        for done, (name, member) in enumerate(self.members.items()):
            _with_name(name, on_progress)(Progress(done, len(self.members), "members", "reading the validation set"))
            columns.append(member.log_probs(valid))
        return self._become(learn_weights(np.stack(columns, axis=1)))

    def _become(self, weights: NDArray[np.float64]) -> Self:
        self.weights = weights
        self.fitted = True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> tuple[Any, ...]:
        return tuple(member.initial_state() for member in self.members.values())

    def advance(self, state: tuple[Any, ...], token_id: int) -> tuple[Any, ...]:
        return tuple(member.advance(part, token_id) for member, part in zip(self.members.values(), state, strict=True))

    def next_log_probs(self, state: tuple[Any, ...]) -> NDArray[np.float64]:
        return self._mix(
            [member.next_log_probs(part) for member, part in zip(self.members.values(), state, strict=True)]
        )

    def _mix(self, log_probs: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        """Returns the logarithm of the weighted mean of the members' probabilities, given as log-probabilities."""
        stacked = np.stack(log_probs, axis=-1).astype(np.float64)
        return np.asarray(logsumexp(stacked + np.log(self.weights), axis=-1))

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> tuple[Any, ...]:
        return tuple(member.state_after(member.visible(context)) for member in self.members.values())

    def next_log_probs_after(self, contexts: Sequence[ArrayLike]) -> NDArray[np.float64]:
        self.require_fitted()
        return self._mix([member.next_log_probs_after(contexts) for member in self.members.values()])

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        return self._mix([member.log_probs(stream) for member in self.members.values()])

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        if positions is not None:  # few positions: the states of their contexts are cheaper than a whole stream
            yield from super().stream_log_probs(stream, positions)
            return
        for band in bands(stream, self.vocab_size):
            mixed = np.zeros((len(band), self.vocab_size))
            for weight, member in zip(self.weights, self.members.values(), strict=True):
                for rows, block in read_band(member, stream, band):
                    mixed[rows] += weight * np.exp(block)
            with np.errstate(divide="ignore"):  # unsmoothed models have probabilities of 0
                np.log(mixed, out=mixed)
            for start, stop in self.block_bounds(len(band)):
                yield np.arange(band.start + start, band.start + stop), mixed[start:stop]

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": self.weights, **self._arrays_of(self.members)}

    def _arrays_of(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        return {key: array for name in names for key, array in add_prefix(name, self.members[name].arrays()).items()}

    def load_arrays(self, arrays: Arrays) -> Self:
        weights = take_array(arrays, "weights", shape=(len(self.members),), dtype=np.float64)
        if not ((weights > 0).all() and np.isclose(weights.sum(), 1)):
            raise SavedModelError(
                f"the saved mixture weights {weights.tolist()} are damaged: they must be above 0 and sum to 1"
            )
        for name, member in self.members.items():
            member.load_arrays(strip_prefix(name, arrays))
        return self._become(weights)


def mixture(
    vocab_size: int,
    *,
    members: Sequence[Any] | Mapping[str, Any] = ("ngram", "class-ngram", "skip-ngram"),
    device: Device = "cpu",
) -> MixtureModel:
    """Creates a mixture of language models, whose weights are learned on the validation set.

    `members` is a list of model families ("species"), each given by its name or as {"species": name, "settings":
    {...}}, such as ["ngram", "lstm"]. It may also be a mapping of names to settings, such as {"ngram": {"order": 4},
    "lstm": {}}. A member may be a mixture itself. Raises ConfigurationError if `members` is neither.
    """
    if isinstance(members, str) or not isinstance(members, Sequence | Mapping):
        raise ConfigurationError(f'members must be a list of species, such as ["ngram", "lstm"], got {members!r}')
    if isinstance(members, Mapping):
        members = [{"species": species, "settings": settings} for species, settings in members.items()]
    models = [create_member(spec, vocab_size, device) for spec in members]
    times: Counter[str] = Counter()
    named = {}
    for spec, model in zip(members, models, strict=True):
        species = spec if isinstance(spec, str) else spec["species"]
        times[species] += 1
        named[species if times[species] == 1 else f"{species}-{times[species]}"] = model
    return MixtureModel(named, settings=list(members))


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mixture": {
        "bytes": {
            "members": [
                {"species": "ngram", "settings": {"order": 10}},
                {"species": "class-ngram", "settings": {"n_classes": 64, "order": 10}},
                {"species": "skip-ngram", "settings": {"order": 6}},
            ]
        }
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
