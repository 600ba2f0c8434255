"""A fitted model with its tokenizer: text goes in, distributions, continuations and surprisals come out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.corpora import Corpus, load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.distribution import Distribution
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError
from lmzoo.generation import Decoding, generate, generate_batch
from lmzoo.language_model import LanguageModel
from lmzoo.metrics import bits
from lmzoo.provenance import Provenance
from lmzoo.stream import EOT
from lmzoo.system.files import atomic_folder
from lmzoo.system.placement import Device, on_device, this_process
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import machine, versions
from lmzoo.system.version import __version__
from lmzoo.tokenizers import Tokenizer

FORMAT_VERSION = 1
DEFAULT_CORPUS = "kjv"


@dataclass(frozen=True)
class TokenSurprisal:
    """One token of a text under a model."""

    token_id: int
    text: str
    """The token as text; empty for the end of text."""
    start: int
    """Position of its first character in the text."""
    end: int
    surprisal_bits: float
    """-log2 of its probability given everything before it; the first token is predicted from a document start."""
    rank: int
    """1 = it was the most likely token."""
    entropy_bits: float
    """Entropy of the distribution it was predicted from."""


@final
@dataclass(frozen=True, eq=False)
class Predictor:
    """Tokenizer + fitted model + provenance. `fit` or `load` one; everything that takes text also takes ids."""

    tokenizer: Tokenizer
    model: LanguageModel[Any]
    species: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the species' factory."""
    provenance: Provenance = field(default_factory=Provenance)
    label: str = ""
    """Name of the predictor in tables; empty if the name of its species is enough."""

    @classmethod
    def fit(
        cls,
        species: str,
        corpus: str | Path | Corpus | EncodedCorpus = DEFAULT_CORPUS,
        *,
        tokenizer: str | Tokenizer | None = None,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
        device: Device = "auto",
        **settings: Any,
    ) -> Self:
        """Fits a species on the train split of a corpus (its valid split serves for tuning; test is not touched).

        `tokenizer` is a spec such as "bpe:4096", trained on the train split, or a Tokenizer; None = what the corpus'
        protocol asks for, else "bpe:4096". `settings` are those of the species' factory (`lmzoo show SPECIES`). A
        network is trained on `device`: cpu, cuda, mps, or auto = the best there is.
        """
        if not isinstance(corpus, Corpus | EncodedCorpus):
            corpus = load_corpus(corpus)
        if not isinstance(corpus, EncodedCorpus):
            corpus = encode_corpus(corpus, tokenizer)
        with on_device(device):
            model = zoo.create(species, corpus.tokenizer.vocab_size, **settings)
        started = time.perf_counter()
        model.fit(corpus.training_data, seed=seed, on_progress=on_progress, checkpoint=checkpoint)
        seconds = time.perf_counter() - started + (checkpoint.earlier_seconds if checkpoint else 0)
        computer = machine() | {"n_processes": this_process().n_processes}
        if found := getattr(model, "device", None):  # of a network
            computer["device"] = str(found)
        provenance = Provenance(
            corpus=corpus.name,
            corpus_fingerprint=corpus.fingerprint,
            n_train_tokens=len(corpus.train.stream),
            n_tokens_read=model.n_tokens_read,
            seed=seed,
            fit_seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
            machine=computer,
        )
        return cls(corpus.tokenizer, model, species, settings, provenance)

    # ---- Asking ---------------------------------------------------------------------------------

    def predict_distribution(self, context: str | Sequence[int] | NDArray[np.integer] = "") -> Distribution:
        """The distribution over the token after `context`; "" = the start of a document."""
        return self.model.predict_distribution(self._ids(context))

    def top_tokens(self, context: str | Sequence[int] = "", k: int = 10) -> list[tuple[str, float]]:
        """The `k` most likely next tokens as text, with their probabilities, best first."""
        best = self.predict_distribution(context).top(k)
        return [(self.tokenizer.token_text(token_id), prob) for token_id, prob in best]

    def complete(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 100,
        decoding: Decoding | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The continuation that was drawn, without the prompt; it ends before the first stop string."""
        return "".join(self.stream(prompt, max_tokens=max_tokens, decoding=decoding, seed=seed, stop=stop))

    def completions(
        self,
        prompt: str = "",
        *,
        n: int,
        max_tokens: int = 100,
        decoding: Decoding | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """`n` different continuations, drawn side by side; each as by `complete`."""
        check_whole(1, n=n)
        _check_stop(stop)
        prompt_ids = self.tokenizer.encode(prompt)
        rng = np.random.default_rng(seed)
        texts = generate_batch(self.model, [prompt_ids] * n, rng=rng, decoding=decoding, max_tokens=max_tokens)
        return ["".join(_until(stop, self._as_text(drawn, prompt_ids.tolist()))) for drawn in texts]

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 100,
        decoding: Decoding | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """Like `complete`, piece by piece as it is drawn; only whole characters are given out."""
        _check_stop(stop)
        prompt_ids = self.tokenizer.encode(prompt)
        rng = np.random.default_rng(seed)
        drawn = generate(self.model, prompt_ids, rng=rng, decoding=decoding, max_tokens=max_tokens)
        yield from _until(stop, self._as_text(drawn, prompt_ids.tolist()))

    def _as_text(self, drawn: Iterable[int], before: list[int]) -> Iterator[str]:
        """Decodes ids that follow the ids `before`; the bytes of one character wait for each other."""
        anchor: list[int] = before
        pending: list[int] = []
        for token_id in drawn:
            if token_id == EOT:
                break
            pending.append(token_id)
            text = self._text_after(anchor, pending)
            if not text.endswith("\ufffd"):
                yield text
                anchor, pending = pending, []
        if pending:
            yield self._text_after(anchor, pending)

    def _text_after(self, anchor: list[int], ids: list[int]) -> str:
        """The text of ids that follow others: what a token reads may depend on the one before it (spaces of words)."""
        return self.tokenizer.decode(anchor + ids)[len(self.tokenizer.decode(anchor)) :]

    def surprisals(self, text: str, *, end_of_text: bool = True) -> list[TokenSurprisal]:
        """What each token of the text, and the end of text after it, costs the model, in order."""
        pieces = self.tokenizer.pieces(text)
        ids = np.array([*(piece.token_id for piece in pieces), *([EOT] if end_of_text else [])], np.int32)
        stats = self.model.token_stats(ids)
        places = [(piece.text, piece.start, piece.end) for piece in pieces] + [("", len(text), len(text))]
        return [
            TokenSurprisal(int(token_id), *place, bits(-log_prob), int(rank), bits(entropy))
            for token_id, place, log_prob, rank, entropy in zip(
                ids, places, stats.log_probs.tolist(), stats.ranks, stats.entropies.tolist(), strict=False
            )
        ]

    def _ids(self, context: str | Sequence[int] | NDArray[np.integer]) -> NDArray[np.integer]:
        return self.tokenizer.encode(context) if isinstance(context, str) else np.asarray(context, dtype=np.int64)

    # ---- Saving ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Writes `predictor.json`, `tokenizer.json`, `arrays.safetensors` and a model card, all or nothing."""
        if self.species not in zoo.names():
            raise UsageError(
                f"a '{self.species}' is no species of the zoo, so nobody could load it: it stays where it is"
            )
        folder = check_home(folder)
        with atomic_folder(folder) as temporary:
            description = {
                "format_version": FORMAT_VERSION,
                "species": self.species,
                "settings": dict(self.settings),
                "vocab_size": self.tokenizer.vocab_size,
                "tokenizer_fingerprint": self.tokenizer.fingerprint,
                "provenance": self.provenance.as_dict(),
            }
            text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
            (temporary / "predictor.json").write_text(text + "\n", encoding="utf-8")
            self.tokenizer.save(temporary / "tokenizer.json")
            save_arrays(temporary / "arrays.safetensors", self.model.arrays())
            (temporary / "README.md").write_text(self._model_card(), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, device: Device = "cpu") -> Self:
        """Reads a saved folder; SavedModelError says which part is missing, damaged or of another version.

        A network will compute on `device`; for single predictions a processor is fast enough.
        A folder of a causal model of Hugging Face becomes a predictor as it is: see `lmzoo.models.pretrained`.
        """
        folder = Path(folder)
        path = folder / "predictor.json"
        if not path.is_file() and (folder / "config.json").is_file():
            return cls._of_huggingface(folder)
        if not path.is_file():
            if (folder / "predictors").is_dir():
                raise SavedModelError(f"{folder} is a run: name one of its predictors, in {folder / 'predictors'}")
            raise SavedModelError(f"no saved predictor in {folder}: lmzoo fit SPECIES --out {folder} makes one")
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            found = description["format_version"]
            if found != FORMAT_VERSION:
                raise SavedModelError(f"{path} has format {found}, and this lmzoo reads {FORMAT_VERSION}: update lmzoo")
            species, settings, vocab_size = description["species"], description["settings"], description["vocab_size"]
            fingerprint, provenance = description["tokenizer_fingerprint"], Provenance(**description["provenance"])
        except (ValueError, KeyError, TypeError) as error:
            raise SavedModelError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        if (tokenizer.vocab_size, tokenizer.fingerprint) != (vocab_size, fingerprint):
            raise SavedModelError(f"{folder / 'tokenizer.json'} is not the tokenizer that the model was fitted with")
        arrays, _ = load_arrays(folder / "arrays.safetensors")
        with on_device(device):
            model = zoo.create(species, vocab_size, **settings).load_arrays(arrays)
        return cls(tokenizer, model, species, settings, provenance)

    @classmethod
    def _of_huggingface(cls, folder: Path) -> Self:
        from lmzoo.models.pretrained import read_pretrained

        tokenizer, model = read_pretrained(folder)
        name = folder.resolve().name
        settings = {"path": str(folder), "window": model.window}
        return cls(tokenizer, model, "huggingface", settings, Provenance(source=name, versions=versions()), label=name)

    def _model_card(self) -> str:
        card, made = zoo.card(self.species), self.provenance
        if made.source is not None:
            origin = [f"- read from: {made.source} (sha256 {made.source_fingerprint or 'unknown'})"]
        else:
            n_tokens = "unknown" if made.n_train_tokens is None else f"{made.n_train_tokens:,}"
            seconds = "unknown" if made.fit_seconds is None else f"{made.fit_seconds:.1f}"
            origin = [
                f"- corpus: {made.corpus or 'unknown'} (sha256 {made.corpus_fingerprint or 'unknown'})",
                f"- seed: {'unknown' if made.seed is None else made.seed}",
                f"- training tokens: {n_tokens}",
                f"- training time in seconds: {seconds}",
                f"- created: {made.created or 'unknown'}",
            ]
        lines = [
            f"# {card.title} ({card.year}), saved by lmzoo {__version__}",
            "",
            card.idea,
            "",
            f"- people: {card.people}",
            f"- sees: {card.sees}",
            f"- limits: {card.limits}",
            f"- paper: {card.paper}",
            *origin,
            f"- tokenizer: {self.tokenizer.spec}, {self.tokenizer.vocab_size:,} entries",
            f"- settings: `{json.dumps(dict(self.settings), sort_keys=True)}`",
            "",
            "```python",
            "from lmzoo import Predictor",
            "",
            'Predictor.load("this folder").top_tokens("some text")',
            "```",
            "",
        ]
        return "\n".join(lines)


def check_home(folder: str | Path) -> Path:
    """The folder as one that `save` may fill or replace; UsageError if it holds anything but a predictor."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "predictor.json").exists()):
        raise UsageError(f"{folder} holds something else and is left as it is: choose an empty or new folder")
    return folder


def _check_stop(stop: Sequence[str]) -> None:
    if any(not text for text in stop):
        raise ConfigurationError("a stop string must not be empty")


def _until(stop: Sequence[str], pieces: Iterable[str]) -> Iterator[str]:
    """Passes text on up to the first stop string; what may be the beginning of one waits for the next piece."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        found = [position for position in map(waiting.find, stop) if position >= 0]
        if found:
            yield waiting[: min(found)]
            return
        ready = len(waiting) - max((_overlap(waiting, ending) for ending in stop), default=0)
        if ready:
            yield waiting[:ready]
            waiting = waiting[ready:]
    if waiting:
        yield waiting


def _overlap(text: str, ending: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `ending`."""
    sizes = range(min(len(ending) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(ending[:size])), 0)
