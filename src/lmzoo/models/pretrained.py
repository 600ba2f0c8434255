"""Pretrained causal language models of Hugging Face's transformers library, evaluated like all other models.

A document is read as x_0 x_1 .. x_p. x_0 is the start token of the model (`bos_token_id`, or `eos_token_id` if there is
none), and the ids of the document follow. A model with C positions reads longer documents in anchored windows (see
`lmzoo.neural.anchored`): x_p is read in the window that starts at S max(0, ceil((p - C + 1) / S)), with S = C / 2. If
the start token is not the end-of-text token, the model was trained to read it first, so it replaces the first id of
each window.

Limits: these models cannot be trained here. A model is refused if it is not causal, or if it cannot continue from the
keys and values of the tokens that it has read.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError, needs_extra
from lmzoo.language_model import LanguageModel
from lmzoo.models.pretrained_folder import SpecialIds, check_safe_weights, read_tokenizer, special_ids
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.messages import first_line
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNLIMITED = 2048
"""Window size, in tokens, of models that name no maximum length."""
_BATCH_INPUTS = 2048
"""Largest number of tokens in a batch of several windows."""
_BLOCK_ELEMENTS = 1 << 26
"""Largest number of logits in memory at a time. A text that is read in several pieces takes longer."""


class PretrainedState(NamedTuple):
    """The state of a pretrained model: the current window of token ids, their KV cache, and the next logits."""

    inputs: NDArray[np.int64]
    """Ids of the current window, as the pretrained model numbers them."""
    cache: Any
    """Keys and values of these ids."""
    logits: Tensor
    """Logits of the V possible next tokens, a tensor (V,)."""


class _Window(NamedTuple):
    """A range of positions in a token stream, `start` to `stop` - 1, that a pretrained model reads together.

    The model predicts the tokens at the positions `first` to `stop` - 1; the earlier tokens are only context.
    """

    start: int
    first: int
    stop: int


@final
class PretrainedLM(LanguageModel[PretrainedState]):
    """A pretrained causal language model of the transformers library.

    `start_id` and `eot_id` are the ids of the start token and the end-of-text token, as the pretrained model numbers
    them. `window` is the largest number of tokens that the model reads together. In lmzoo, end-of-text has the id 0, so
    the ids 0 and `eot_id` are exchanged.
    """

    fitted = True
    # The start of a window depends on the length of the whole context, so contexts must not be truncated.
    context_size = None

    def __init__(self, network: PreTrainedModel, *, start_id: int, eot_id: int, window: int) -> None:
        super().__init__(int(network.config.get_text_config().vocab_size))
        if window < 2:
            raise ConfigurationError(f"window must be a whole number of at least 2, got {window}")
        parameters = inspect.signature(network.forward).parameters
        names = [name for name in ("cache", "past_key_values") if name in parameters]  # transformers 5 and 4
        if not names:
            raise ConfigurationError(
                f"a {type(network).__name__} keeps no keys and values, so lmzoo cannot evaluate it"
            )
        self.window, self._step = window, window // 2
        self._network, self._cache_argument = network.eval(), names[0]
        network.config.pad_token_id = None  # no input is padded; else transformers warns of texts with this token
        self._start_id, self._eot_id = start_id, eot_id
        self._check_causal()

    @property
    def reach(self) -> int:
        return self.window

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        raise UsageError(
            "a model of Hugging Face is already trained and cannot be trained here: choose a species from lmzoo list"
        )

    def initial_state(self) -> PretrainedState:
        return self._after(np.array([self._start_id]))

    def advance(self, state: PretrainedState, token_id: int) -> PretrainedState:
        if token_id == EOT:
            return self.initial_state()
        inputs = np.append(state.inputs, self._swapped(np.array([token_id])))
        if len(inputs) > self.window:
            return self._after(self._with_start(inputs[self._step :]))
        cache = copy.deepcopy(state.cache)  # the network writes into it
        with torch.inference_mode():
            logits = self._forward(inputs[None, -1:], cache)
        return PretrainedState(inputs, cache, logits[0, -1])

    def next_log_probs(self, state: PretrainedState) -> NDArray[np.float64]:
        return state.logits.double().log_softmax(-1).numpy()

    def state_after(self, context: NDArray[np.int32]) -> PretrainedState:
        inputs = np.concatenate([[self._start_id], self._swapped(context.astype(np.int64))])
        begin = self._window_start(len(inputs) - 1)
        return self._after(self._with_start(inputs[begin:]) if begin else inputs)

    def state_after_conversation(self, ids: NDArray[np.int32]) -> PretrainedState:
        """Returns the state of the model after exactly the T token ids of a conversation, an array (T,).

        In contrast to `state_after`, the model reads no start token of its own, and EOT does not end a document: in
        many chat models it ends each message. T is at least 1 and at most `window`.
        """
        return self._after(self._swapped(ids.astype(np.int64)))

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        windows = self._all_windows(stream) if positions is None else self._windows_at(stream, positions)
        for read, logits in self._predictions(stream, windows):
            for start, stop in self.block_bounds(len(read)):
                yield read[start:stop], logits[start:stop].log_softmax(-1).numpy()

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream), np.float64)
        for positions, logits in self._predictions(stream, self._all_windows(stream)):
            observed = torch.from_numpy(stream.ids[positions].astype(np.int64))
            log_probs[positions] = -F.cross_entropy(logits, observed, reduction="none").numpy()
        return log_probs

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: parameter.detach().numpy() for name, parameter in self._network.named_parameters()}

    def load_arrays(self, arrays: Arrays) -> Self:
        network = copy.deepcopy(self._network)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                array = take_array(arrays, name, shape=tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(np.array(array)))
        self._network = network
        return self

    # ---- Windows --------------------------------------------------------------------------------

    def _window_start(self, position: int) -> int:
        """Returns the position at which a model starts to read in order to predict the token at `position`.

        Documents longer than `window` tokens are read in overlapping windows, which start at multiples of `window` // 2
        tokens. Of the windows that contain the position, the first is used, because it has the longest context. Both
        positions are counted from the start of the document.
        """
        return self._step * max(0, -((self.window - 1 - position) // self._step))

    def _all_windows(self, stream: TokenStream) -> Iterator[_Window]:
        for start, stop in zip(stream.starts.tolist(), stream.ends.tolist(), strict=True):
            first = start
            while first < stop:
                begin = start + self._window_start(first - start)
                after = min(stop, begin + self.window)
                yield _Window(begin, first, after)
                first = after

    def _windows_at(self, stream: TokenStream, positions: NDArray[np.intp]) -> Iterator[_Window]:
        """Yields, for each of N positions of a stream, the window that a model reads to predict the token there."""
        starts = stream.document_starts(positions)
        for start, position in zip(starts.tolist(), positions.tolist(), strict=True):
            yield _Window(start + self._window_start(position - start), position, position + 1)

    def _with_start(self, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Replaces the first id of each window by the start token, if the model has one that differs from end-of-text.

        `inputs` (.., W) are the W ids of each window.
        """
        if self._start_id != self._eot_id:
            inputs = inputs.copy()
            inputs[..., 0] = self._start_id
        return inputs

    # ---- Reading --------------------------------------------------------------------------------

    @torch.inference_mode()
    def _predictions(
        self, stream: TokenStream, windows: Iterable[_Window]
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Predicts tokens of a stream, whose windows the model reads in batches.

        Yields the positions (N,) of N predicted tokens, and the logits (N, V) of the V tokens of the vocabulary at each
        position.
        """
        read = self._swapped(stream.previous_ids().astype(np.int64))
        read[stream.starts] = self._start_id
        waiting = sorted(windows, key=lambda window: window.start - window.stop)
        while waiting:  # longest first; shorter windows are padded with later tokens, which a causal model ignores
            width = waiting[0].stop - waiting[0].start
            size = max(1, _BATCH_INPUTS // width)
            starts, firsts, stops = np.array(waiting[:size]).T[:, :, None]  # (B, 1) each
            del waiting[:size]
            positions = starts + np.arange(width)  # (B, W)
            wanted = (positions >= firsts) & (positions < stops)
            cache = self._empty_cache()
            for begin, logits in self._read(self._with_start(read[positions.clip(max=len(read) - 1)]), cache):
                columns = slice(begin, begin + logits.shape[1])
                here = wanted[:, columns]
                if here.all():  # a view, because a copy takes as long as a layer
                    yield positions[:, columns].ravel(), logits.flatten(0, 1)
                elif here.any():
                    yield positions[:, columns][here], logits[torch.from_numpy(here)]

    def _read(self, inputs: NDArray[np.int64], cache: Any) -> Iterator[tuple[int, Tensor]]:
        """Computes the logits of the next token after each of W ids of B sequences, in pieces of w ids.

        The pieces are so small that their logits fit in memory. `inputs` (B, W) are the ids, which continue the text
        whose keys and values are in `cache`. Yields for each piece the index of its first id, and the logits (B, w, V)
        of the V tokens of the vocabulary.
        """
        width = max(1, _BLOCK_ELEMENTS // (len(inputs) * self.vocab_size))
        for begin in range(0, inputs.shape[1], width):
            yield begin, self._forward(inputs[:, begin : begin + width], cache)

    @torch.inference_mode()
    def _after(self, inputs: NDArray[np.int64]) -> PretrainedState:
        """Computes the state of the model after `inputs`, the token ids of everything read so far."""
        cache = self._empty_cache()
        *_, (_, logits) = self._read(inputs[None], cache)
        return PretrainedState(inputs, cache, logits[0, -1].clone())

    def _forward(self, inputs: NDArray[np.int64], cache: Any) -> Tensor:
        """Computes the logits (B, W, V) of the V possible next tokens after each id of B sequences of W ids.

        `inputs` (B, W) are ids of the pretrained model; the logits are in the order of lmzoo's ids. The keys and values
        of the ids are added to the KV cache.
        """
        ids = torch.from_numpy(inputs.astype(np.int64))
        logits: Tensor = self._network(ids, use_cache=True, **{self._cache_argument: cache}).logits
        if self._eot_id != EOT:
            logits[..., [EOT, self._eot_id]] = logits[..., [self._eot_id, EOT]]
        return logits

    def _empty_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._network.config)

    def _swapped(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Converts token ids of lmzoo to ids of the pretrained model: exchanges 0 and the model's end-of-text id."""
        return np.where(ids == EOT, self._eot_id, np.where(ids == self._eot_id, EOT, ids))

    @torch.inference_mode()
    def _check_causal(self) -> None:
        """Raises ConfigurationError if the logits change when a text is read in two pieces instead of one.

        Evaluation and generation read texts in pieces, which is exact only for a causal model with a complete KV cache.
        """
        inputs = np.arange(min(6, self.window))[None] % self.vocab_size
        half = inputs.shape[1] // 2
        try:
            whole, cache = self._forward(inputs, self._empty_cache()), self._empty_cache()
            pieces = torch.cat([self._forward(part, cache) for part in (inputs[:, :half], inputs[:, half:])], 1)
        except Exception as error:
            raise ConfigurationError(
                f"a {type(self._network).__name__} cannot read text in pieces: {type(error).__name__}: {error}"
            ) from error
        if whole.shape[2] != self.vocab_size:
            raise ConfigurationError(
                f"the model predicts {whole.shape[2]} ids, but its configuration has a vocabulary of {self.vocab_size}"
            )
        if not (whole - pieces).abs().max() <= 1e-3 * whole.std() + 1e-6:  # float32 rounding is 100 times smaller
            raise ConfigurationError(
                f"a {type(self._network).__name__} predicts differently if it reads a text in pieces: it is not "
                "causal, or its state is more than keys and values, so lmzoo cannot evaluate it"
            )


def read_pretrained(folder: str | Path, *, window: int | None = None) -> tuple[Tokenizer, PretrainedLM]:
    """Loads the tokenizer and the model of a Hugging Face folder (config.json, tokenizer.json, *.safetensors).

    Nothing is downloaded, no code in the folder is run, and the model computes in float32. `window` is the largest
    number of tokens that the model reads together; None means the maximum length of the model. Raises SavedModelError,
    TokenizerError or ConfigurationError if the folder cannot be read.
    """
    folder = Path(folder)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SavedModelError(
                f"{folder / name} is missing: write it with save_pretrained of the model and of its (fast) tokenizer"
            )
    check_safe_weights(folder)
    with needs_extra("transformers", "hf", "reading a model of Hugging Face"):
        import transformers
    with reading(folder, transformers):
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below with the name of the weight
            output_loading_info=True,
        )
    network, info = loaded
    absent = sorted([*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])])
    if absent:
        raise SavedModelError(
            f"the weights in {folder} do not fit its config.json: {absent[0]} is missing or has a wrong shape"
        )
    _check_weights(folder, network)
    config = network.config.get_text_config()
    ids = special_ids_of(folder, config)
    tokenizer = read_tokenizer(folder, eot_id=ids.eot, vocab_size=config.vocab_size)
    model = PretrainedLM(network, start_id=ids.start, eot_id=ids.eot, window=window or n_positions(config))
    return tokenizer, model


def _check_weights(folder: Path, network: PreTrainedModel) -> None:
    """Raises SavedModelError if a weight of a network is NaN or infinite. Reads each weight once."""
    for name, parameter in network.named_parameters():
        if parameter.numel() and not torch.stack(torch.aminmax(parameter.detach())).isfinite().all():
            raise SavedModelError(f"the weight '{name}' in {folder} holds NaN or infinity: it is damaged")


def special_ids_of(folder: Path, config: Any) -> SpecialIds:
    """Returns the ids of the start token and the end-of-text token of a pretrained model, from its configuration.

    Raises SavedModelError for an id that is missing or wrong in `config.json` of the model's `folder`.
    """
    ends = {"eos_token_id": config.eos_token_id, "bos_token_id": getattr(config, "bos_token_id", None)}
    return special_ids(folder / "config.json", config.vocab_size, **ends)


def n_positions(config: Any) -> int:
    """Returns the maximum length, in tokens, of the texts that a pretrained model can read, from its configuration."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    limits = [getattr(config, "max_position_embeddings", None)]
    if rope.get("rope_type") == "longrope":  # longer inputs change the rotation of all positions
        limits += [
            rope.get("original_max_position_embeddings"), getattr(config, "original_max_position_embeddings", None)
        ]  # fmt: skip
    return min((limit for limit in limits if limit), default=_UNLIMITED)


@contextmanager
def reading(path: Path, transformers: Any) -> Iterator[None]:
    """Silences the progress bars and warnings of transformers while it reads `path`.

    Raises SavedModelError for every exception, because a damaged folder or file can raise almost anything there.
    """
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise SavedModelError(f"transformers cannot read {path}: {reason}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
