"""A model for lm-eval, the Language Model Evaluation Harness: any predictor, without a server.

    python -m lmzoo.interchange.lm_eval --model lmzoo --model_args pretrained=ngram --tasks lambada_openai

runs the program of lm-eval with this model. Versions of lm-eval that read the entry points `lm_eval.models` know it by
themselves: `lm_eval --model lmzoo ...`. In Python, importing this module registers it for `lm_eval.simple_evaluate`.

lm-eval scores the tokens of a text from its start, as lmzoo does, but not its end: `loglikelihood_rolling` is the sum
of `LanguageModel.log_probs` without that of EOT (end of text), which `lmzoo evaluate` counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast, final

import lm_eval.models  # lm-eval registers its own models only as long as no other model is registered  # noqa: F401
import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from lmzoo.errors import UsageError
from lmzoo.predictor import Predictor, as_predictor
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.placement import Device

_BATCH_IDS = 1 << 15
"""Number of token ids that are scored at a time."""
_MAX_TOKENS = 256
"""Largest number of tokens of a continuation, if a task does not say it, as in lm-eval."""
_IGNORED = ("batch_size", "max_batch_size")


@register_model("lmzoo")
@final
class LmzooLM(TemplateLM):
    """A predictor as a model of lm-eval.

    `pretrained` is the path or name of the predictor (see `Predictor.load`), `device` where a network computes ("cpu",
    "cuda", "mps" or "auto"), and `seed` the seed of sampled continuations. "cuda:0", which the program of lm-eval asks
    for by itself, means "auto". The batch size of lm-eval is ignored. Raises UsageError for another argument.
    """

    def __init__(self, pretrained: str | Predictor, device: str | None = None, seed: int = 0, **others: Any) -> None:
        super().__init__()
        if unknown := sorted({*others} - {*_IGNORED}):
            raise UsageError(f"unknown argument '{unknown[0]}': lmzoo takes pretrained, device and seed")
        lmzoo_device = cast(Device, {None: "cpu", "cuda:0": "auto"}.get(device, device))  # checked by Predictor.load
        self.predictor = as_predictor(pretrained, device=lmzoo_device)
        self._seed = seed

    @property
    def eot_token_id(self) -> int:
        """The id of end-of-text, after which a model predicts as at the start of a document."""
        return EOT

    @property
    def tokenizer_name(self) -> str:
        """The fingerprint of the tokenizer, for the caches of lm-eval."""
        return self.predictor.tokenizer.fingerprint

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Returns the token ids of a text, without special tokens."""
        return self.predictor.tokenizer.encode(string).tolist()

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Returns the log-probability of the text of each request in nats, without that of its end."""
        texts = [text for (text,) in (request.args for request in requests)]
        results: list[float] = []
        for texts_read, documents in _batches(texts, self.predictor.tokenizer.encode_batch(texts)):
            stream = TokenStream.from_documents(documents)
            log_probs = self.predictor.model.log_probs(stream)
            for text, start, end in zip(texts_read, stream.starts, stream.ends, strict=True):
                results.append(float(log_probs[start : end - 1].sum()))
                self.cache_hook.add_partial("loglikelihood_rolling", (text,), results[-1])
        return results

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Returns, for the token ids of each context and continuation, the log-probability of the continuation in nats.

        The second value is True if each token of the continuation is the most likely one.
        """
        results: list[tuple[float, bool]] = []
        pairs = [np.array([*context, *continuation], np.int32) for _, context, continuation in requests]
        for batch, documents in _batches(requests, pairs):
            ids = np.concatenate([np.append(document, EOT) for document in documents]).astype(np.int32)
            ends = np.cumsum([document.size + 1 for document in documents]) - 1
            sizes = [len(continuation) for _, _, continuation in batch]
            positions = np.concatenate([np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)])
            stats = self.predictor.model.token_stats(ids, positions=positions)
            first = 0
            for (texts, _, _), size in zip(batch, sizes, strict=True):
                here = slice(first, first + size)
                is_greedy = bool((stats.ranks[here] == 1).all())
                results.append((float(stats.log_probs[here].sum()), is_greedy))
                self.cache_hook.add_partial("loglikelihood", texts, results[-1])
                first += size
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Returns a continuation of the text of each request, up to one of the strings `until` of its settings.

        It is the most likely token at each step, unless `do_sample` or `temperature` ask for sampling.
        """
        results: list[str] = []
        for request in requests:
            text, settings = request.args
            results.append(
                self.predictor.complete(
                    text,
                    max_tokens=int(settings.get("max_gen_toks", _MAX_TOKENS)),
                    seed=self._seed,
                    stop=settings.get("until") or (),
                    **_sampling(settings),
                )
            )
            self.cache_hook.add_partial("generate_until", request.args, results[-1])
        return results


def _sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a task for sampling; the temperature is 0 unless the task asks for sampling."""
    sampled = settings.get("do_sample", settings.get("temperature", 0) > 0)
    top_k = settings.get("top_k")
    return {
        "temperature": float(settings.get("temperature", 1)) if sampled else 0.0,
        "top_k": int(top_k) if top_k else None,
        "top_p": float(settings.get("top_p", 1)),
        "min_p": float(settings.get("min_p", 0)),
    }


def _batches(items: Sequence[Any], documents: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yields successive items with their documents, which have about `_BATCH_IDS` token ids in total."""
    first = size = 0
    for index, document in enumerate(documents):
        size += len(document)
        if size >= _BATCH_IDS or index + 1 == len(documents):
            yield [*items[first : index + 1]], [*documents[first : index + 1]]
            first, size = index + 1, 0
