"""The route `/v1/distribution`: the probabilities of all next tokens after one or several contexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from lmzoo.distribution import Distribution
from lmzoo.predictor import Predictor
from lmzoo.server.errors import ApiError
from lmzoo.server.prompts import EncodedPrompt, read_prompts
from lmzoo.server.schemas import DistributionRequest
from lmzoo.server.scoring import LOWEST, top
from lmzoo.server.service import Service, fingerprint, service_of, token_texts, while_connected

router = APIRouter()

_BINARY = "application/octet-stream"


@router.post("/v1/distribution")
async def distribution(body: DistributionRequest, request: Request) -> Response:
    """Returns the log-probabilities, in nats, of the next token after each context.

    With the header `Accept: application/octet-stream`, the answer is the array of all B x V log-probabilities as
    little-endian float32, row by row, and its header `x-shape` is "B,V".
    """
    service = service_of(request)
    worker = service.worker(body.model)
    is_binary = _BINARY in request.headers.get("accept", "")

    def predict(predictor: Predictor) -> Response:
        prompts = read_prompts(body.prompt, predictor, service.limits)
        rows = _rows(predictor, prompts, service)
        if is_binary:
            headers = {"x-shape": f"{rows.shape[0]},{rows.shape[1]}"}
            return Response(rows.astype("<f4").tobytes(), media_type=_BINARY, headers=headers)
        data = [_entry(index, body.top_k, row, predictor, prompts[index]) for index, row in enumerate(rows)]
        answer = {"object": "list", "model": worker.name, "system_fingerprint": fingerprint(predictor), "data": data}
        return JSONResponse(answer)

    return await while_connected(request, worker.call(predict))


def _rows(predictor: Predictor, prompts: list[EncodedPrompt], service: Service) -> NDArray[np.float64]:
    """Returns the log-probabilities (B, V) of the next token after each of B prompts."""
    vocab_size, largest = predictor.model.vocab_size, service.limits.probabilities
    if len(prompts) * vocab_size > largest:
        raise ApiError(
            f"{len(prompts)} prompts x {vocab_size:,} tokens are more than {largest:,} probabilities: ask for fewer",
            param="prompt",
        )
    return predictor.model.next_log_probs_after([predictor.model.visible(prompt.ids) for prompt in prompts])


def _entry(
    index: int, k: int | None, row: NDArray[np.float64], predictor: Predictor, prompt: EncodedPrompt
) -> dict[str, Any]:
    """Returns the prediction after one prompt as JSON: log-probabilities by token id, or the `k` most likely tokens."""
    entry: dict[str, Any] = {
        "index": index,
        "n_tokens": len(prompt.ids),
        "entropy": Distribution(row).entropy(),
    }
    if k is None:
        return {**entry, "logprobs": np.maximum(row, LOWEST).tolist()}
    texts, before = token_texts(predictor.tokenizer), int(prompt.ids[-1]) if len(prompt.ids) else None
    tokens = [
        {"id": token_id, "token": texts.text_after(token_id, before), "logprob": log_prob}
        for token_id, log_prob in top(row, k)
    ]
    return {**entry, "top": tokens}
