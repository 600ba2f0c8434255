"""Pretrained models in GGUF files: each file is converted once to a folder in the Hugging Face format, in float32.

GGUF files store most weights in 4 to 8 bits. transformers converts them to float32, which takes about a minute per 100
million parameters. The result is therefore kept in the cache folder of the platform:

    CACHE/lmzoo/models/SHA256-VERSION/    config.json, model.safetensors, tokenizer.json, the chat template

SHA256 is the checksum of the whole GGUF file, and VERSION the version of the conversion. Because of the checksum, a
changed file is converted again, and copies of a file share one conversion. The size and the modification time of the
file would be faster to read. But a copy has a new modification time, and two versions of a file that are written in
quick succession can have the same one.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lmzoo.arrays import check_numbers, save_arrays
from lmzoo.errors import ConfigurationError, SavedModelError, TokenizerError, needs_extra
from lmzoo.models.gguf_file import check_complete, check_magic, read_header
from lmzoo.system.files import atomic_folder, make_folder, sha256_of, writing

if TYPE_CHECKING:
    from lmzoo.models.pretrained import PretrainedLM
    from lmzoo.tokenizers import Tokenizer

_VERSION = 1
"""Version of the conversion. Folders that an earlier version wrote are not used."""
_PACKAGES = ("transformers", "gguf", "accelerate")
_logger = logging.getLogger(__name__)


def read_gguf(path: str | Path, *, window: int | None = None) -> tuple[Tokenizer, PretrainedLM]:
    """Loads the tokenizer and the model of a GGUF file, which is converted first if this was not done before.

    `window` is the largest number of tokens that the model reads together; None means the maximum length of the model.
    Raises SavedModelError, TokenizerError or ConfigurationError if the file cannot be read, and MissingExtraError if a
    package that the conversion needs is not installed.
    """
    from lmzoo.models.pretrained import read_pretrained

    folder = converted(path)
    try:
        return read_pretrained(folder, window=window)
    except (SavedModelError, TokenizerError, ConfigurationError) as error:
        raise type(error)(
            f"{path} cannot be used: {error}; if its conversion is damaged, delete {folder} and try again"
        ) from error


def converted(path: str | Path) -> Path:
    """Returns the folder in the Hugging Face format that holds the model of a GGUF file.

    If there is no such folder yet, the file is converted first. The folder is written completely or not at all. Raises
    SavedModelError if the file cannot be read, and MissingExtraError if a package that the conversion needs is not
    installed.
    """
    path = Path(path)
    check_magic(path)
    folder = cache_folder() / f"{_checksum(path)}-{_VERSION}"
    if folder.is_dir():
        return folder
    gguf = _imported()[1]
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    check_complete(path, read_header(path), sizes)
    with writing(folder):
        make_folder(folder.parent)
        lock = FileLock(folder.with_suffix(".lock"))
    with lock:  # another process may be converting the same file
        if not folder.is_dir():
            _logger.info("converting %s to float32, which takes a minute or more; this is done only once", path)
            with atomic_folder(folder) as temporary:
                _convert(path.resolve(), temporary)
    return folder


def cache_folder() -> Path:
    """Returns the folder for converted models, in the cache folder of the platform."""
    from platformdirs import user_cache_path

    return user_cache_path("lmzoo") / "models"


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise SavedModelError(f"cannot read {path}: {error.strerror or error}") from error


def _imported() -> list[Any]:
    """Returns the packages that a conversion needs; raises MissingExtraError if one of them is not installed."""
    modules = []
    for name in _PACKAGES:
        with needs_extra(name, "hf", "reading a GGUF file"):
            modules.append(importlib.import_module(name))
    return modules


def _convert(path: Path, folder: Path) -> None:
    """Writes the model and the tokenizer of a GGUF file to a folder, as transformers saves them."""
    import torch
    import transformers

    from lmzoo.models.pretrained import reading

    # transformers gets an empty folder, and the absolute path of the file as `gguf_file`. In the folder of the file, it
    # would also read other files.
    options: dict[str, Any] = {"gguf_file": str(path), "local_files_only": True, "trust_remote_code": False}
    weights: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
    if hasattr(transformers, "GgufConfig"):  # transformers 5 would keep the weights of some models in 4 bits
        weights["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with reading(path, transformers), _without_bars():
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, **options, **weights)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    network, info = loaded
    absent = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if absent:
        raise SavedModelError(f"{path} is damaged: the weight {absent[0]} is missing or has a wrong shape")
    arrays = _distinct_arrays(network)
    try:
        check_numbers(arrays)
    except SavedModelError as error:
        raise SavedModelError(f"{path}: {error}") from error
    save_arrays(folder / "model.safetensors", arrays, metadata={"format": "pt"})
    for config in (network.config, network.generation_config):
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are no longer quantized
        if config is not None:
            config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _distinct_arrays(network: Any) -> dict[str, Any]:
    """Returns the weights of a network as arrays by name; of weights that share memory, only the first."""
    arrays: dict[int, tuple[str, Any]] = {}
    for name, tensor in network.state_dict().items():
        arrays.setdefault(tensor.data_ptr(), (name, tensor.numpy()))
    return dict(arrays.values())


@contextmanager
def _without_bars() -> Iterator[None]:
    """Silences a progress bar of transformers that its own settings do not switch off."""
    try:
        module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
        shown = module.tqdm
    except (ImportError, AttributeError):  # a different version of transformers
        yield
        return
    module.tqdm = partial(shown, disable=True)
    try:
        yield
    finally:
        module.tqdm = shown
