"""The text interface of a trained model: `Predictor` joins a model with its tokenizer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import check_numbers, load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import as_seed, check_count, one_or_several
from lmzoo.corpora import Corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.corpora.load import as_corpus
from lmzoo.corpora.training_sample import TrainingSample
from lmzoo.distribution import Distribution
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.generation import Decoding, generate, generate_batch
from lmzoo.language_model import LanguageModel
from lmzoo.metrics import Surprisals, TokenSurprisal, bits, bits_per_byte
from lmzoo.model_card import facts_in_html, model_card
from lmzoo.predictor_folder import (
    FORMAT_VERSION,
    SAMPLE,
    default_name,
    find_predictor,
    new_files,
    plain_values,
    read_description,
)
from lmzoo.provenance import Provenance
from lmzoo.stream import EOT, TokenStream, as_ids
from lmzoo.streaming import continuation, stop_strings
from lmzoo.system.counts import short_count
from lmzoo.system.placement import Device, this_process
from lmzoo.system.progress import OnProgress, OnStep
from lmzoo.system.provenance import machine, timestamp, versions
from lmzoo.tokenizers import Tokenizer, visible
from lmzoo.training_history import HISTORY, TrainingHistory, reporter

DEFAULT_CORPUS = "kjv"


@final
@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained language model with its tokenizer; takes text and returns predictions.

    `Predictor.fit` trains a new one, `Predictor.load` reads a saved one. Methods that take a context accept text or an
    array of token ids.
    """

    tokenizer: Tokenizer
    model: LanguageModel[Any]
    species: str
    """Name of the model family in the registry, such as "ngram" or "lstm"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model, as keyword arguments of the function that creates it."""
    provenance: Provenance = field(default_factory=Provenance)
    """Origin of the model: its training text, seed and time, or the file that it was imported from."""
    label: str = ""
    """Name of the predictor in tables; empty if the name of its model family is enough."""
    training_sample: TrainingSample | None = None
    """A sample of the training text, to recognise this text in an evaluation; None for an imported model."""
    history: TrainingHistory | None = None
    """Losses during the training of a network; None for other models."""

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
        on_step: OnStep | None = None,
        device: Device = "auto",
        **settings: Any,
    ) -> Self:
        """Trains a model on the train split of a corpus and returns it with its tokenizer.

        `species` names the model family, `corpus` a bundled corpus, a file or a folder of text files. `tokenizer` is a
        Tokenizer or a specification such as "bpe:4096", which is then trained on the train split; None means the usual
        one for this corpus, else "bpe:4096". `settings` are the settings of the model family (shown by `lmzoo show
        SPECIES`). `device` is where a neural network is trained: "cpu", "cuda", "mps", or "auto" for the best one
        available. The validation split is used for tuning only, and the test split is never read. `on_step` is called
        with the figures of each training step of a network and of each evaluation, for example to log them; a step with
        these figures is also part of the reports that `on_progress` gets. Raises UsageError if a tokenizer is given for
        a corpus that is encoded already.
        """
        zoo.check_learns_from_text(species)
        seed, settings = as_seed(seed), plain_values(settings)
        if not isinstance(corpus, EncodedCorpus):
            corpus = encode_corpus(as_corpus(corpus), tokenizer)
        elif tokenizer is not None:
            raise UsageError("the corpus is encoded already: leave out the tokenizer, or give a corpus of texts")
        model = zoo.create(species, corpus.tokenizer.vocab_size, device=device, **settings)
        started, bits_per_nat = time.perf_counter(), _bits_per_byte_per_nat(corpus)
        report = reporter(on_progress, on_step, bits_per_nat) if on_progress or on_step else None
        model.fit(corpus.training_data, seed=seed, on_progress=report, checkpoint=checkpoint)
        seconds = time.perf_counter() - started + (checkpoint.earlier_seconds if checkpoint else 0)
        computer = machine() | {"n_processes": this_process().n_processes}
        if model.device_name is not None:
            computer["device"] = model.device_name
        provenance = Provenance(
            corpus=corpus.name,
            corpus_fingerprint=corpus.fingerprint,
            n_train_tokens=len(corpus.train.stream),
            n_tokens_read=model.n_tokens_read,
            seed=seed,
            fit_seconds=round(seconds, 3),
            created=timestamp(),
            versions=versions(),
            machine=computer,
        )
        sample = TrainingSample.of(corpus.train.stream, int(corpus.train.document_words.sum()))
        history = model.history and model.history.with_bits_per_byte(bits_per_nat)
        return cls(corpus.tokenizer, model, species, settings, provenance, training_sample=sample, history=history)

    def __repr__(self) -> str:
        made = self.provenance
        origin = f"fitted on {made.corpus}" if made.corpus else f"read from {made.source}" if made.source else ""
        size = f"{short_count(self.model.n_parameters)} parameters" if self.model.fitted else "not fitted"
        facts = [self.label or self.species, self.tokenizer.spec, origin, size]
        return f"<Predictor {', '.join(fact for fact in facts if fact)}>"

    def _repr_html_(self) -> str:
        return facts_in_html(self)

    # ---- Predictions ----------------------------------------------------------------------------

    def predict_distribution(self, context: str | Sequence[int] | NDArray[np.integer] = "") -> Distribution:
        """Returns the distribution over the token after `context`, which is text or token ids; "" is a document start.

        Raises TokenIdError for ids outside the vocabulary.
        """
        distribution = self.model.predict_distribution(self._ids(context))
        return distribution.with_token_text(lambda token_id: visible(self.tokenizer.token_text(token_id)))

    def top_tokens(self, context: str | Sequence[int] = "", k: int = 10) -> list[tuple[str, float]]:
        """Returns the `k` most likely next tokens after `context` as pairs (text, probability), most likely first."""
        best = self.predict_distribution(context).top(k)
        return [(self.tokenizer.token_text(token_id), prob) for token_id, prob in best]

    def complete(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> str:
        """Continues a prompt and returns the sampled continuation, without the prompt.

        The continuation ends when the model predicts the end of the text, before the first of the `stop` strings, or
        after `max_tokens` tokens. `temperature`, `top_k`, `top_p` and `min_p` change each predicted distribution as
        described for `Decoding`. The same `seed` gives the same text.
        """
        return "".join(self._stream(prompt, max_tokens, Decoding(temperature, top_k, top_p, min_p), seed, stop))

    def completions(
        self,
        prompt: str = "",
        *,
        n: int,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> list[str]:
        """Samples `n` independent continuations of a prompt and returns their texts, without the prompt.

        All are generated as one batch. Apart from `n`, the method takes the same arguments as `complete`, and each
        continuation ends in the same way.
        """
        check_count(1, n=n)
        decoding, stop = Decoding(temperature, top_k, top_p, min_p), stop_strings(stop)
        ids = self.tokenizer.encode(prompt)
        batch = generate_batch(self.model, [ids] * n, rng=seed, decoding=decoding, max_tokens=max_tokens)
        texts = ([token.token_id for token in tokens] for tokens in batch)
        return ["".join(continuation(self.tokenizer, text, prompt, ids, stop)) for text in texts]

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """Continues a prompt and yields the continuation piece by piece, as soon as whole characters are sampled.

        The pieces join to the text that `complete` returns for the same arguments.
        """
        return self._stream(prompt, max_tokens, Decoding(temperature, top_k, top_p, min_p), seed, stop)

    def _stream(
        self, prompt: str, max_tokens: int, decoding: Decoding, seed: int | None, stop: str | Sequence[str]
    ) -> Iterator[str]:
        stop = stop_strings(stop)
        ids = self.tokenizer.encode(prompt)
        tokens = generate(self.model, ids, rng=seed, decoding=decoding, max_tokens=max_tokens)
        return continuation(self.tokenizer, (token.token_id for token in tokens), prompt, ids, stop)

    def surprisals(self, text: str, *, end_of_text: bool = True) -> Surprisals:
        """Returns the surprisal, rank and entropy of each token of a text, given the text before it, as a list.

        The last entry is the surprisal of EOT (end of text) after the text, unless `end_of_text` is False.
        """
        pieces = self.tokenizer.pieces(text)
        ids = np.array([*(piece.token_id for piece in pieces), *([EOT] if end_of_text else [])], np.int32)
        stats = self.model.token_stats(ids)
        texts = [(piece.text, piece.start, piece.end) for piece in pieces] + [("", len(text), len(text))]
        tokens = (  # adding 0 makes a negative zero positive
            TokenSurprisal(int(token_id), *piece, bits(-log_prob) + 0.0, int(rank), bits(entropy))
            for token_id, piece, log_prob, rank, entropy in zip(
                ids, texts, stats.log_probs.tolist(), stats.ranks, stats.entropies.tolist(), strict=False
            )
        )
        return Surprisals(text, tokens)

    def without_start(self) -> Self:
        """Returns a copy of the predictor that scores a text as an excerpt of a document, not as its start.

        The first token of a text is predicted by the unigram probabilities, as with `bos=False` in KenLM. Raises
        ConfigurationError if the model is not an n-gram model.
        """
        return replace(self, model=self.model.without_start(), label=f"{self.label or self.species}, no start")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the species and all settings of the model by name, as estimators of scikit-learn do.

        `deep` has no effect; scikit-learn passes it.
        """
        defaults = zoo.defaults(self.species) if self.species in zoo.names() else {}
        return {"species": self.species, **defaults, **self.settings}

    def score(self, texts: str | Iterable[str], y: None = None) -> float:
        """Returns minus the bits per byte of texts: higher is better, as for estimators of scikit-learn.

        Each text is a document, whose end is predicted, too, as in `lmzoo.evaluate`. `y` has no effect; scikit-learn
        passes it. Raises UsageError if there is no text, or if the tokenizer loses parts of texts, because scores of
        such predictors are not comparable.
        """
        texts = list(one_or_several(texts))
        stream = TokenStream.from_documents(self.tokenizer.encode_batch(texts))
        n_bytes = sum(len(text.encode()) for text in texts)
        if not n_bytes or not self.tokenizer.lossless:
            lossy = f"the tokenizer {self.tokenizer.spec} loses parts of texts"
            raise UsageError(f"bits per byte are not defined: {'there is no text' if not n_bytes else lossy}")
        return -bits_per_byte(-float(self.model.log_probs(stream).sum()), n_bytes)

    def _ids(self, context: str | Sequence[int] | NDArray[np.integer]) -> NDArray[np.integer]:
        return self.tokenizer.encode(context) if isinstance(context, str) else as_ids(context)

    # ---- Saving ---------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, narrow: bool = False) -> Path:
        """Saves the predictor in a folder, and returns the path of the folder.

        The folder is created if it does not exist. If it holds a saved predictor, the files of that predictor are
        replaced, and all other files stay. The new files are `predictor.json`, `tokenizer.json`, `arrays.safetensors`
        and `README.md`; also `training_sample.safetensors` if lmzoo trained the model, and `history.jsonl` if the model
        is a network. If an error occurs, no file is changed.

        With `narrow`, the arrays are stored in the smallest form that keeps all their values, and must be converted
        when they are loaded. Raises UsageError if the folder holds other files and no predictor, or if the model family
        is not registered.
        """
        if self.species not in zoo.names():
            raise UsageError(
                f"cannot save this predictor: '{self.species}' is not a registered species, "
                "so Predictor.load could not rebuild it"
            )
        with new_files(folder) as temporary:
            description = {
                "format_version": FORMAT_VERSION,
                "species": self.species,
                "settings": dict(self.settings),
                "vocab_size": self.tokenizer.vocab_size,
                "tokenizer": self.tokenizer.spec,
                "tokenizer_fingerprint": self.tokenizer.fingerprint,
                "provenance": self.provenance.as_dict(),
                "label": self.label,
            }
            text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
            (temporary / "predictor.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
            self.tokenizer.save(temporary / "tokenizer.json")
            save_arrays(temporary / "arrays.safetensors", self.model.arrays(), narrow=narrow)
            if self.training_sample is not None:
                save_arrays(temporary / SAMPLE, self.training_sample.arrays())
            if self.history is not None:
                self.history.save(temporary / HISTORY)
            (temporary / "README.md").write_text(model_card(self), encoding="utf-8", errors="backslashreplace")
        return Path(folder)

    @classmethod
    def load(cls, source: str | Path, *, device: Device = "cpu") -> Self:
        """Loads a saved predictor from its folder, or a pretrained causal language model.

        `source` is the folder of a predictor, a folder of Hugging Face, a GGUF file, the name of a predictor that comes
        with lmzoo, such as "ngram", or the name of a pretrained model that is installed as a package, such as
        "smollm2". A folder or file of that name is preferred. `device` is where a neural network computes: "cpu",
        "cuda", "mps" or "auto"; pretrained models compute on the CPU. Raises SavedModelError if a file is missing,
        damaged or of another version, and MissingExtraError if a package is not installed.
        """
        folder = find_predictor(source)
        path = folder / "predictor.json"
        if not path.is_file():
            return cls._pretrained(folder, default_name(source))
        saved = read_description(path)
        tokenizer = Tokenizer.load(folder / "tokenizer.json", saved.tokenizer)
        if (tokenizer.vocab_size, tokenizer.fingerprint) != (saved.vocab_size, saved.tokenizer_fingerprint):
            raise SavedModelError(f"{folder / 'tokenizer.json'} is not the tokenizer that the model was trained with")
        arrays, _ = load_arrays(folder / "arrays.safetensors")
        check_numbers(arrays)
        try:
            model = zoo.create(saved.species, saved.vocab_size, **saved.settings)
        except UsageError as error:
            raise SavedModelError(f"{path}: {error}") from error
        if device != "cpu":  # a device that is not present is no fault of the file
            model = zoo.create(saved.species, saved.vocab_size, device=device, **saved.settings)
        try:
            model.load_arrays(arrays)
        except SavedModelError as error:
            raise SavedModelError(f"{folder}: {error}") from error
        sample = TrainingSample.from_arrays(load_arrays(folder / SAMPLE)[0]) if (folder / SAMPLE).exists() else None
        history = TrainingHistory.load(folder / HISTORY) if (folder / HISTORY).exists() else None
        return cls(tokenizer, model, saved.species, saved.settings, saved.provenance, saved.label, sample, history)

    @classmethod
    def _pretrained(cls, path: Path, name: str) -> Self:
        """Loads a folder of Hugging Face or a GGUF file."""
        from lmzoo.models.pretrained import read_pretrained
        from lmzoo.models.pretrained_gguf import read_gguf

        tokenizer, model = read_pretrained(path) if path.is_dir() else read_gguf(path)
        settings = {"path": str(path), "window": model.window}
        return cls(tokenizer, model, "huggingface", settings, Provenance(source=name, versions=versions()), label=name)


def _bits_per_byte_per_nat(corpus: EncodedCorpus) -> float | None:
    """Returns the bits per byte of a loss of one nat per token on the validation split.

    Returns None if the texts cannot be recovered from their tokens, so that bits per byte would not be comparable.
    """
    n_bytes = int(corpus.valid.document_bytes.sum())
    if not n_bytes or not corpus.valid.is_recovered_by(corpus.tokenizer):
        return None
    return bits_per_byte(len(corpus.valid.stream), n_bytes)


def as_predictor(source: Predictor | str | Path, *, device: Device = "cpu") -> Predictor:
    """Returns a predictor unchanged, or loads one from its path or name; see `Predictor.load`."""
    return source if isinstance(source, Predictor) else Predictor.load(source, device=device)
