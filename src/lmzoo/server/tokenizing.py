"""The routes of the tokenizer: `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lmzoo.predictor import Predictor
from lmzoo.server.errors import ApiError
from lmzoo.server.prompts import check_size
from lmzoo.server.schemas import DetokenizeRequest, TokenizeRequest
from lmzoo.server.service import service_of, token_texts, while_connected
from lmzoo.stream import EOT
from lmzoo.tokenizers.tokenizer import EOT_TEXT

router = APIRouter()


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> dict[str, Any]:
    """Returns the token ids of a text. If the text is exactly the name of the end-of-text token, returns its id."""
    text = body.prompt if body.prompt is not None else body.content
    if text is None:
        raise ApiError("give the text in 'prompt'", param="prompt")
    service = service_of(request)

    def encode(predictor: Predictor) -> dict[str, Any]:
        ids = [EOT] if text == EOT_TEXT else predictor.tokenizer.encode(text).tolist()
        answer = {"count": len(ids), "max_model_len": service.limits.prompt_tokens + 1, "tokens": ids}
        if body.return_token_strs:
            texts = token_texts(predictor.tokenizer)
            pairs = zip(ids, [None, *ids], strict=False)
            answer["token_strs"] = [texts.text_after(token_id, before) for token_id, before in pairs]
        return answer

    return await while_connected(request, service.worker(body.model).call(encode))


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> dict[str, str]:
    """Returns the text of token ids; the end-of-text token has none."""
    service = service_of(request)
    check_size(len(body.tokens), service.limits, "tokens")
    worker = service.worker(body.model)
    text = await while_connected(request, worker.call(lambda predictor: predictor.tokenizer.decode(body.tokens)))
    return {"prompt": text}


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str = "") -> dict[str, Any]:
    """Describes the tokenizer of a model. The end-of-text token also marks the beginning of a text."""

    def describe(predictor: Predictor) -> dict[str, Any]:
        tokenizer = predictor.tokenizer
        return {
            "tokenizer_class": tokenizer.spec,
            "vocab_size": tokenizer.vocab_size,
            "lossless": tokenizer.lossless,
            "bos_token": EOT_TEXT,
            "eos_token": EOT_TEXT,
            "pad_token": None,
            "unk_token": None if tokenizer.unknown_id is None else tokenizer.token_text(tokenizer.unknown_id),
            "chat_template": None,
        }

    return await while_connected(request, service_of(request).worker(model).call(describe))
