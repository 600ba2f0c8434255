"""Causal models of Hugging Face's transformers, as others trained them, held to the laws of this package.

A document is read as x_0 x_1 .. x_p: x_0 is what the model knows as the start of a text (`bos_token_id`, else its
end), then come its ids. A model with C positions reads longer documents in anchored windows, as
`lmzoo.neural.anchored` says: x_p is read in the window that starts at S max(0, ceil((p - C + 1) / S)), S = C / 2.
Models that mark the start of a text with an id of its own have learned to see it first in all that they read: it takes
the place of the first id of each window.
What it cannot do: learn here. A model that is not causal, or cannot go on from where it was, is refused.
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
from lmzoo.errors import ConfigurationError, MissingExtraError, SavedModelError, UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer, adopt_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNLIMITED = 2048
"""The window of models whose positions have no end."""
_BATCH_INPUTS = 2048
"""Inputs that are read side by side."""
_BLOCK_ELEMENTS = 1 << 25
"""Logits that are held at a time."""


class PretrainedState(NamedTuple):
    """What was read in the current window, in the ids of the model (n,); the keys and values of it; logits (V,)."""

    inputs: NDArray[np.int64]
    cache: Any
    logits: Tensor


class _Window(NamedTuple):
    """Inputs of the positions start .. stop - 1 of a stream, read for the predictions from position `first` on."""

    start: int
    first: int
    stop: int


@final
class PretrainedLM(LanguageModel[PretrainedState]):
    """A causal model of transformers. In its own ids, `start_id` opens a text and `eot_id` ends it; the latter and 0
    change places outside."""

    fitted = True
    # Where windows begin depends on the whole length of a context: no cut to its last ids leaves them where they are.
    context_size = None

    def __init__(self, network: PreTrainedModel, *, start_id: int, eot_id: int, window: int) -> None:
        super().__init__(int(network.config.get_text_config().vocab_size))
        if window < 2:
            raise ConfigurationError(f"window must be a whole number of at least 2, got {window}")
        parameters = inspect.signature(network.forward).parameters
        names = [name for name in ("cache", "past_key_values") if name in parameters]  # as of transformers 5 and 4
        if not names:
            raise ConfigurationError(
                f"a {type(network).__name__} keeps no keys and values, so lmzoo cannot read with it"
            )
        self.window, self._step = window, window // 2
        self._network, self._cache_argument = network.eval(), names[0]
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
        raise UsageError("a model of Hugging Face was fitted elsewhere: evaluate it, or fit a species of the zoo")

    def initial_state(self) -> PretrainedState:
        return self._after(np.array([self._start_id]))

    def advance(self, state: PretrainedState, token_id: int) -> PretrainedState:
        if token_id == EOT:
            return self.initial_state()
        inputs = np.append(state.inputs, self._swapped(np.array([token_id])))
        if len(inputs) > self.window:
            return self._after(self._opened(inputs[self._step :]))
        cache = copy.deepcopy(state.cache)  # the network writes into it
        with torch.inference_mode():
            logits = self._forward(inputs[None, -1:], cache)
        return PretrainedState(inputs, cache, logits[0, -1])

    def next_log_probs(self, state: PretrainedState) -> NDArray[np.float64]:
        return state.logits.double().log_softmax(-1).numpy()

    def state_after(self, context: NDArray[np.int32]) -> PretrainedState:
        inputs = np.concatenate([[self._start_id], self._swapped(context.astype(np.int64))])
        begin = self._window_start(len(inputs) - 1)
        return self._after(self._opened(inputs[begin:]) if begin else inputs)

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

    def _window_start(self, place: int) -> int:
        """Where the window of the input at this place of its document starts."""
        return self._step * max(0, -((self.window - 1 - place) // self._step))

    def _all_windows(self, stream: TokenStream) -> Iterator[_Window]:
        for start, stop in zip(stream.starts.tolist(), stream.ends.tolist(), strict=True):
            first = start
            while first < stop:
                begin = start + self._window_start(first - start)
                after = min(stop, begin + self.window)
                yield _Window(begin, first, after)
                first = after

    def _windows_at(self, stream: TokenStream, positions: NDArray[np.intp]) -> Iterator[_Window]:
        """Yields the window of each of the positions (N,)."""
        starts = stream.starts[np.searchsorted(stream.starts, positions, side="right") - 1]
        for start, position in zip(starts.tolist(), positions.tolist(), strict=True):
            yield _Window(start + self._window_start(position - start), position, position + 1)

    def _opened(self, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """(.., W) the inputs of windows, which begin with the start of a text if that is a mark of its own."""
        if self._start_id != self._eot_id:
            inputs = inputs.copy()
            inputs[..., 0] = self._start_id
        return inputs

    # ---- Reading --------------------------------------------------------------------------------

    @torch.inference_mode()
    def _predictions(
        self, stream: TokenStream, windows: Iterable[_Window]
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Positions (N,) and the logits (N, V) that predict the ids at them, for what the windows are read for."""
        read = self._swapped(stream.previous_ids().astype(np.int64))
        read[stream.starts] = self._start_id
        waiting = sorted(windows, key=lambda window: window.start - window.stop)
        while waiting:  # the longest come first; what is past the end of a shorter one is read, and changes nothing
            width = waiting[0].stop - waiting[0].start
            size = max(1, _BATCH_INPUTS // width)
            starts, firsts, stops = np.array(waiting[:size]).T[:, :, None]  # (B, 1) each
            del waiting[:size]
            places = starts + np.arange(width)  # (B, W)
            wanted = (places >= firsts) & (places < stops)
            cache = self._empty_cache()
            for begin, logits in self._read(self._opened(read[places.clip(max=len(read) - 1)]), cache):
                columns = slice(begin, begin + logits.shape[1])
                if wanted[:, columns].any():
                    yield places[:, columns][wanted[:, columns]], logits[torch.from_numpy(wanted[:, columns])]

    def _read(self, inputs: NDArray[np.int64], cache: Any) -> Iterator[tuple[int, Tensor]]:
        """Reads rows (B, W) after what is in the cache, in pieces: where one begins, and its logits (B, w, V)."""
        width = max(1, _BLOCK_ELEMENTS // (len(inputs) * self.vocab_size))
        for begin in range(0, inputs.shape[1], width):
            yield begin, self._forward(inputs[:, begin : begin + width], cache)

    @torch.inference_mode()
    def _after(self, inputs: NDArray[np.int64]) -> PretrainedState:
        """The state of a window with these inputs (n,)."""
        cache = self._empty_cache()
        *_, (_, logits) = self._read(inputs[None], cache)
        return PretrainedState(inputs, cache, logits[0, -1].clone())

    def _forward(self, inputs: NDArray[np.int64], cache: Any) -> Tensor:
        """(B, W, V) logits in our ids; the cache takes up the inputs (B, W)."""
        ids = torch.from_numpy(inputs.astype(np.int64))
        logits: Tensor = self._network(ids, use_cache=True, **{self._cache_argument: cache}).logits
        if self._eot_id != EOT:
            logits[..., [EOT, self._eot_id]] = logits[..., [self._eot_id, EOT]]
        return logits

    def _empty_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._network.config)

    def _swapped(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Our ids as those of the model."""
        return np.where(ids == EOT, self._eot_id, np.where(ids == self._eot_id, EOT, ids))

    @torch.inference_mode()
    def _check_causal(self) -> None:
        """ConfigurationError for a network that reads in pieces otherwise than at once: all that we do rests on it."""
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
                f"the model predicts {whole.shape[2]} ids, and its configuration has {self.vocab_size}"
            )
        if not (whole - pieces).abs().max() <= 1e-3 * whole.std() + 1e-6:  # float32 errs a hundred times less
            raise ConfigurationError(
                f"a {type(self._network).__name__} reads text in pieces otherwise than at once: it is not causal, or "
                "remembers in other ways than by keys and values, and lmzoo cannot read with it"
            )


def read_pretrained(folder: str | Path, *, window: int | None = None) -> tuple[Tokenizer, PretrainedLM]:
    """The tokenizer and the model of a folder of Hugging Face: `config.json`, `tokenizer.json`, `*.safetensors`.

    Nothing is downloaded, no code of the folder runs, and all is computed in float32. `window` is C; None = the
    positions that the model has. SavedModelError, TokenizerError or ConfigurationError for what cannot be read.
    """
    folder = Path(folder)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SavedModelError(
                f"{folder / name} is missing: the save_pretrained of a model and of its (fast) tokenizer write it"
            )
    check_safe_weights(folder)
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "hf", "reading a model of Hugging Face") from error
    with _quiet(transformers):
        try:
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except Exception as error:  # a damaged folder can raise almost anything there
            reason = str(error).strip().partition("\n")[0]
            raise SavedModelError(f"transformers cannot read {folder}: {type(error).__name__}: {reason}") from error
    network, info = loaded
    absent = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if absent:
        raise SavedModelError(
            f"the weights in {folder} do not fit its config.json: {absent[0]} is missing or of another shape"
        )
    config = network.config.get_text_config()
    ends = config.eos_token_id
    eot_id = ends[0] if isinstance(ends, list) and ends else ends
    if not isinstance(eot_id, int):
        raise SavedModelError(
            f"{folder / 'config.json'} must name the id that ends texts as eos_token_id, got {ends!r}"
        )
    start_id = eot_id if getattr(config, "bos_token_id", None) is None else config.bos_token_id
    if not 0 <= start_id < config.vocab_size:
        raise SavedModelError(
            f"{folder / 'config.json'} has bos_token_id {start_id} and vocab_size {config.vocab_size}"
        )
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    tokenizer = adopt_tokenizer(text, eot_id=eot_id, vocab_size=config.vocab_size)
    return tokenizer, PretrainedLM(network, start_id=start_id, eot_id=eot_id, window=window or _n_positions(config))


def check_safe_weights(folder: Path) -> None:
    """SavedModelError for a folder without safetensors; pickled weights can run any code, and are never opened."""
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise SavedModelError(
            f"{folder / pickled[0]} is a pickle, which can run any code when it is opened: convert the weights to "
            "safetensors first, where you trust them (save_pretrained of transformers does it)"
        )
    raise SavedModelError(f"there are no weights in {folder}: lmzoo reads model.safetensors")


def _n_positions(config: Any) -> int:
    """How many positions a model was made for, of those that it can compute."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    limits = [getattr(config, "max_position_embeddings", None)]
    if rope.get("rope_type") == "longrope":  # beyond, it rotates all positions otherwise
        limits += [
            rope.get("original_max_position_embeddings"), getattr(config, "original_max_position_embeddings", None)
        ]  # fmt: skip
    return min((limit for limit in limits if limit), default=_UNLIMITED)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the bars and warnings of transformers: what matters of them is raised."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
