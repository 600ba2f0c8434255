"""Conversion of GPT-2 models between lmzoo's species `gpt2` and folders of Hugging Face.

A folder holds `config.json`, `model.safetensors` and `tokenizer.json`. The logits of transformers and lmzoo are equal,
except for rounding errors. Conversion does not need transformers. `Predictor.load` reads folders of other causal models
without conversion: see `lmzoo.models.pretrained`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import save_arrays, take_array
from lmzoo.checks import check_share, check_whole
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError
from lmzoo.models.pretrained_folder import check_safe_weights, read_json, read_tokenizer, special_ids
from lmzoo.predictor import Predictor
from lmzoo.provenance import Provenance
from lmzoo.stream import EOT
from lmzoo.system.files import atomic_folder
from lmzoo.system.printable import name_text
from lmzoo.system.provenance import timestamp, versions
from lmzoo.tokenizers import Tokenizer
from lmzoo.tokenizers.tokenizer import EOT_TEXT

# Values of the configuration that describe the published GPT-2; a file may omit them.
_FIXED: dict[str, Any] = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_SAME_ACTIVATION = ("gelu_new", "gelu_pytorch_tanh")
"""Names of the tanh approximation of gelu."""
_OUTER = {"embedding": "wte", "positions": "wpe", "norm": "ln_f"}
_IN_BLOCK = {
    "norm_1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm_2": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
_FLOATS = ("F64", "F32", "F16", "BF16")


# ---- Writing -------------------------------------------------------------------------------------


def predictor_to_huggingface(predictor: Predictor, folder: str | Path) -> Path:
    """Writes a GPT-2 model and its tokenizer (a predictor) to a new folder in the format of Hugging Face.

    `transformers.AutoModelForCausalLM` and `AutoTokenizer` can read the folder. Token ids are unchanged: the EOT
    (end-of-text) token has id 0, and the tokenizer of transformers puts it before each text as the start of a document.
    Returns the folder. Raises ConfigurationError for a predictor whose model is not a `gpt2`, and UsageError if the
    folder exists.
    """
    folder = Path(folder)
    if predictor.species != "gpt2":
        raise ConfigurationError(f"only 'gpt2' can be written for Hugging Face; got '{predictor.species}'")
    if folder.exists():
        raise UsageError(f"{folder} exists already and is not overwritten: choose a new name")
    settings = {**zoo.defaults("gpt2"), **predictor.settings}
    arrays = predictor.model.arrays()
    weights = {f"transformer.{name}": _transposed(name, arrays[ours]) for ours, name in _names(settings["n_layers"])}
    with atomic_folder(folder) as temporary:
        save_arrays(temporary / "model.safetensors", weights, metadata={"format": "pt"})
        _write_json(temporary / "config.json", _config(predictor.tokenizer.vocab_size, settings))
        ends = {"bos_token_id": EOT, "eos_token_id": EOT, "pad_token_id": EOT}
        _write_json(temporary / "generation_config.json", ends)
        _write_json(temporary / "tokenizer.json", _huggingface_tokenizer(predictor.tokenizer))
        marks = dict.fromkeys(["bos_token", "eos_token", "pad_token"], EOT_TEXT)
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": settings["window"],
            "clean_up_tokenization_spaces": False,
        }
        _write_json(temporary / "tokenizer_config.json", {**about, **marks})
    return folder


def _config(vocab_size: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_positions": settings["window"],
        "n_ctx": settings["window"],
        "n_embd": settings["d_model"],
        "n_layer": settings["n_layers"],
        "n_head": settings["n_heads"],
        "n_inner": None,
        "embd_pdrop": settings["dropout"],
        "resid_pdrop": settings["dropout"],
        "attn_pdrop": 0.0,
        "bos_token_id": EOT,
        "eos_token_id": EOT,
        "pad_token_id": EOT,
        "use_cache": True,
        "dtype": "float32",
        "torch_dtype": "float32",  # its name before transformers 4.56
        **_FIXED,
    }


def _huggingface_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns a tokenizer as JSON for the library of Hugging Face, which then puts the EOT token before each text."""
    mark = {"content": EOT_TEXT, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    description = json.loads(tokenizer.to_json())
    start, text = {"SpecialToken": {"id": EOT_TEXT, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return description | {
        "added_tokens": [{"id": EOT, **mark, "special": True}, *description["added_tokens"]],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, start, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {EOT_TEXT: {"id": EOT_TEXT, "ids": [EOT], "tokens": [EOT_TEXT]}},
        },
    }


def _write_json(path: Path, description: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- Reading -------------------------------------------------------------------------------------


def predictor_from_huggingface(folder: str | Path) -> Predictor:
    """Reads a GPT-2 model in the folder format of Hugging Face as lmzoo's own model `gpt2`, with its tokenizer.

    The logits are the same as in transformers, except for rounding errors. The EOT (end-of-text) token and the token
    with id 0 exchange their ids. Only safetensors files are read, never a pickle. Raises ConfigurationError if the
    architecture differs from GPT-2, and SavedModelError or TokenizerError if a file is missing or damaged.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    settings, vocab_size, eot_id = _settings(folder / "config.json", config)
    check_safe_weights(folder)
    weights = _Weights(folder)
    # Checked before any allocation, so that a wrong configuration cannot ask for more memory than the file has weights.
    weights.check(_shapes(settings, vocab_size))
    shapes = dict(_shapes(settings, vocab_size))
    arrays: dict[str, NDArray[Any]] = {}
    for ours, name in _names(settings["n_layers"]):
        arrays[ours] = np.ascontiguousarray(_transposed(name, weights.take(name, shapes[name])))
    rows = arrays["embedding.weight"]
    if weights.has("lm_head.weight") and not np.array_equal(weights.take("lm_head.weight", rows.shape), rows):
        raise ConfigurationError(f"{folder}: lm_head.weight differs from wte.weight, but gpt2 uses one matrix for both")
    rows[[EOT, eot_id]] = rows[[eot_id, EOT]]

    tokenizer = read_tokenizer(folder, eot_id=eot_id, vocab_size=vocab_size)
    model = zoo.create("gpt2", vocab_size, **settings).load_arrays(arrays)
    provenance = Provenance(
        source=name_text(folder.resolve().name),
        source_fingerprint=weights.fingerprint(),
        created=timestamp(),
        versions=versions(),
    )
    return Predictor(tokenizer, model, "gpt2", settings, provenance)


def _settings(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], int, int]:
    """Reads the configuration of a GPT-2 model of Hugging Face, given as the parsed `config.json`.

    Returns the settings for lmzoo's model `gpt2`, the vocabulary size, and the id of the EOT (end-of-text) token.
    Raises ConfigurationError if the configuration describes another architecture.
    """
    kind = config.get("model_type")
    if kind != "gpt2":
        raise ConfigurationError(
            f"{path} has model_type {kind!r}, and only 'gpt2' can be converted; "
            "lmzoo evaluate, predict and generate read folders of other causal models without conversion"
        )
    for name, wanted in _FIXED.items():
        value = config.get(name, wanted)
        if value != wanted and not (name == "activation_function" and value in _SAME_ACTIVATION):
            raise ConfigurationError(f"{path} has {name} {value!r}, but gpt2 needs {wanted!r}")
    sizes = {
        "d_model": config.get("n_embd", 768),
        "n_layers": config.get("n_layer", 12),
        "n_heads": config.get("n_head", 12),
    }
    window, vocab_size = config.get("n_positions", 1024), config.get("vocab_size", 50257)
    check_whole(1, **sizes)
    check_whole(2, n_positions=window, vocab_size=vocab_size)
    if config.get("n_inner") not in (None, 4 * sizes["d_model"]):
        raise ConfigurationError(
            f"{path} has n_inner {config['n_inner']!r}, but gpt2 needs 4 x n_embd = {4 * sizes['d_model']}"
        )
    ends = {name: config.get(name, 50256) for name in ("eos_token_id", "bos_token_id")}
    start_id, eot_id = special_ids(path, vocab_size, **ends)
    if start_id != eot_id:
        raise ConfigurationError(
            f"{path} has bos_token_id {start_id} and eos_token_id {eot_id}, but gpt2 needs the same id for both"
        )
    dropout = config.get("resid_pdrop", 0.1)
    check_share(resid_pdrop=dropout)
    return {**sizes, "window": window, "dropout": dropout}, vocab_size, eot_id


class _Weights:
    """The weight tensors in a model folder of Hugging Face, which consist of one or several safetensors files.

    Tensors are read one at a time. Raises SavedModelError if a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        names = ["model.safetensors"]
        if not (folder / names[0]).is_file() and index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or any(Path(str(name)).name != name for name in weight_map.values()):
                raise SavedModelError(f"{index} is damaged: its weight_map must name files of the same folder")
            names = sorted(set(weight_map.values()))
        self._folder, self._files = folder, [folder / name for name in names]
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self._locations: dict[str, tuple[Path, str]] = {}
        for path in self._files:
            with _open(path) as file:
                for full_name in file.keys():  # noqa: SIM118 - `file` is not a mapping
                    entry, name = file.get_slice(full_name), full_name.removeprefix("transformer.")
                    self._shapes[name] = (tuple(entry.get_shape()), entry.get_dtype())
                    self._locations[name] = (path, full_name)

    def has(self, name: str) -> bool:
        return name in self._locations

    def check(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Raises SavedModelError if a tensor is missing, has another shape, or is not of floating-point numbers.

        `shapes` yields the name and the shape of each tensor.
        """
        for name, shape in shapes:
            if name not in self._shapes:
                raise SavedModelError(f"the weights in {self._folder} lack the tensor '{name}'")
            actual, dtype = self._shapes[name]
            if actual != shape or dtype not in _FLOATS:
                raise SavedModelError(
                    f"the tensor '{name}' in {self._folder} has shape {actual} and type {dtype}; config.json needs "
                    f"shape {shape} and one of the types {', '.join(_FLOATS)}"
                )

    def take(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Returns a tensor as a float32 array; raises SavedModelError if it has another shape."""
        path, full_name = self._locations[name]
        with _open(path) as file:
            array = file.get_tensor(full_name).float().numpy()
        return take_array({name: array}, name, shape=shape, dtype=np.float32)

    def fingerprint(self) -> str:
        """Returns the SHA-256 hash of the concatenated weight files, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self._files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def _open(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="pt")  # as torch: numpy has no bfloat16
    except (safetensors.SafetensorError, OSError) as error:
        raise SavedModelError(f"{path} is missing, damaged or not a safetensors file: {error}") from error


# ---- Names and shapes ----------------------------------------------------------------------------


def _names(n_layers: int) -> Iterator[tuple[str, str]]:
    """Yields the names of each parameter of a GPT-2 with `n_layers` layers, as pairs.

    The first name is the one in lmzoo, the second the one in `transformers.GPT2Model`.
    """
    inner = (
        (f"blocks.{number}.{ours}", f"h.{number}.{name}")
        for number in range(n_layers)
        for ours, name in _IN_BLOCK.items()
    )
    for ours, name in itertools.chain(_OUTER.items(), inner):
        yield f"{ours}.weight", f"{name}.weight"
        if name not in ("wte", "wpe"):
            yield f"{ours}.bias", f"{name}.bias"


def _is_transposed(name: str) -> bool:
    """Returns True if `transformers` stores the transpose of the weight matrix with this name.

    `transformers` uses the layer `Conv1D` for it, in place of `Linear`.
    """
    return ".c_" in name and name.endswith("weight")


def _transposed(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return array.T if _is_transposed(name) else array


def _shapes(settings: Mapping[str, Any], vocab_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the name and the shape of each tensor in a weight file of GPT-2."""
    d = settings["d_model"]
    matrices = {
        "wte": (vocab_size, d),
        "wpe": (settings["window"], d),
        "attn.c_attn": (d, 3 * d),
        "attn.c_proj": (d, d),
        "mlp.c_fc": (d, 4 * d),
        "mlp.c_proj": (4 * d, d),
    }
    for _, name in _names(settings["n_layers"]):
        layer, _, kind = name.rpartition(".")
        matrix = matrices.get(layer.split(".", 2)[-1])
        yield name, matrix if matrix and kind == "weight" else ((matrix or (d, d))[1],)
