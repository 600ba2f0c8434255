"""The route `/v1/chat/completions`: replies of chat models."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse

from lmzoo.chat.conversation import Message, check_conversation
from lmzoo.chat.session import chat_model
from lmzoo.predictor import Predictor
from lmzoo.server.batching import RunningText, Worker
from lmzoo.server.errors import ApiError, as_api_error
from lmzoo.server.generating import (
    DONE,
    Delta,
    Outputs,
    TextWriter,
    bias_of,
    check_bounds,
    decoding_of,
    event,
    generators,
)
from lmzoo.server.prompts import check_size
from lmzoo.server.schemas import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    ContentLogprob,
    ReplyMessage,
    TokenLogprob,
    Usage,
)
from lmzoo.server.scoring import ScoredToken
from lmzoo.server.service import Service, fingerprint, service_of, token_texts, while_connected

router = APIRouter()


@dataclass(frozen=True, eq=False)
class _Started:
    """A request whose replies are being generated."""

    predictor: Predictor
    n_prompt_tokens: int
    end_ids: frozenset[int]


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def reply(body: ChatRequest, request: Request) -> Response:
    """Replies to the last message of a conversation; the model must be a chat model."""
    service = service_of(request)
    worker = service.worker(body.model)
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    check_bounds(body, service.limits, max_tokens=max_tokens, k=body.top_logprobs)
    outputs = Outputs(body.n, each_token=body.stream)
    try:
        started = await while_connected(
            request, worker.call(lambda predictor: _start(body, max_tokens, predictor, worker, outputs))
        )
        answer = _Answer(body, worker.name, started, outputs, service)
        if body.stream:
            return EventSourceResponse(answer.events(request), headers=body.headers)
        text = (await while_connected(request, answer.whole())).model_dump_json()
        return Response(text, media_type="application/json", headers=body.headers)
    except BaseException:
        outputs.close()
        raise


def _start(body: ChatRequest, max_tokens: int, predictor: Predictor, worker: Worker, outputs: Outputs) -> _Started:
    """Reads a conversation and begins to reply; runs in the thread of the worker."""
    chat = chat_model(predictor)
    roles = {"developer": "system"}
    conversation = check_conversation(
        [Message(roles.get(message.role, message.role), message.content) for message in body.messages]
    )
    ids = chat.prompt_ids(conversation)
    check_size(len(ids), worker.limits)
    size = chat.context_size
    if size is not None:
        if len(ids) >= size:
            raise ApiError(
                f"the conversation has {len(ids):,} tokens with its template, but the model sees at most {size:,}, "
                "with the reply: leave out its first messages",
                param="messages",
                code="context_length_exceeded",
            )
        max_tokens = min(max_tokens, size - len(ids))
    bias, decoding = bias_of(body, predictor.model.vocab_size), decoding_of(body)
    read_prompt = cache(lambda: chat.state_after(ids))  # once for all replies
    texts: list[RunningText] = []
    for index, rng in enumerate(generators(body.seed, body.n)):
        if not max_tokens:
            outputs.put(Delta(index, "", None, "length"))
            continue
        writer = TextWriter(
            index,
            outputs,
            chat.decoder(),
            stop=body.stop,
            end_ids=chat.end_ids,
            max_tokens=max_tokens,
            k=body.top_logprobs if body.logprobs else None,
        )
        texts.append(
            RunningText(
                ids, rng, decoding, writer.add_token, outputs.put, outputs.is_closed, read_prompt, bias=bias
            )
        )  # fmt: skip
    worker.start(texts)
    return _Started(predictor, len(ids), chat.end_ids)


class _Answer:
    """The answer to a request, as one object or as a stream of events."""

    def __init__(self, body: ChatRequest, model: str, started: _Started, outputs: Outputs, service: Service) -> None:
        self._body, self._model, self._outputs, self._metrics = body, model, outputs, service.metrics
        self._started = started
        self._tokenizer = started.predictor.tokenizer
        self._previous: dict[int, int | None] = dict.fromkeys(range(body.n))
        self._head = {
            "id": f"chatcmpl-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint(started.predictor),
        }

    async def whole(self) -> ChatCompletion:
        """Returns the complete answer."""
        replies: dict[int, list[Delta]] = {index: [] for index in range(self._body.n)}
        async for deltas in self._outputs.batches():
            for delta in deltas:
                replies[delta.choice].append(delta)
        choices = [
            ChatChoice(
                index=index,
                message=ReplyMessage(content="".join(delta.text for delta in deltas)),
                logprobs=self._logprobs(index, deltas),
                finish_reason=deltas[-1].finish_reason or "stop",
            )
            for index, deltas in replies.items()
        ]
        return ChatCompletion(**self._head, choices=choices, usage=self._usage())

    async def events(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the answer as server-sent events; an error becomes the last of them."""
        batches = self._outputs.batches()
        try:
            for index in range(self._body.n):
                yield event(self._chunk(index, {"role": "assistant", "content": ""}))
            while (deltas := await while_connected(request, anext(batches, None))) is not None:
                for index in sorted({delta.choice for delta in deltas}):
                    new = [delta for delta in deltas if delta.choice == index]
                    text = "".join(delta.text for delta in new)
                    yield event(self._chunk(index, {"content": text}, new))
            usage = self._usage()
            if self._body.stream_options.include_usage:
                yield event(ChatChunk(**self._head, choices=[], usage=usage))
        except Exception as error:
            yield event(as_api_error(error).body)
        finally:
            self._outputs.close()
        yield DONE

    def _chunk(self, index: int, delta: dict[str, str], new: Sequence[Delta] = ()) -> ChatChunk:
        choice = ChatChunkChoice(
            index=index,
            delta=delta,
            logprobs=self._logprobs(index, new) if new else None,
            finish_reason=new[-1].finish_reason if new else None,
        )
        return ChatChunk(**self._head, choices=[choice])

    def _usage(self) -> Usage:
        """Returns the number of tokens, and adds it to the metrics of the server."""
        n_read, n_generated = self._started.n_prompt_tokens, self._outputs.n_tokens
        self._metrics.prompt_tokens.labels(self._model).inc(n_read)
        self._metrics.completion_tokens.labels(self._model).inc(n_generated)
        return Usage(prompt_tokens=n_read, completion_tokens=n_generated, total_tokens=n_read + n_generated)

    def _logprobs(self, index: int, deltas: Sequence[Delta]) -> ChatLogprobs | None:
        """Returns the log-probabilities of the tokens of a reply, without the one that ends it; None = not wanted."""
        if not self._body.logprobs:
            return None
        tokens = [delta.token for delta in deltas if delta.token and delta.token.token_id not in self._started.end_ids]
        return ChatLogprobs(content=[self._content(index, token) for token in tokens])

    def _content(self, index: int, token: ScoredToken) -> ContentLogprob:
        previous = self._previous[index]
        self._previous[index] = token.token_id
        top = [self._token(*pair, previous) for pair in token.top]
        return ContentLogprob(**self._token(token.token_id, token.log_prob, previous).model_dump(), top_logprobs=top)

    def _token(self, token_id: int, log_prob: float, previous: int | None) -> TokenLogprob:
        text = token_texts(self._tokenizer).text_after(token_id, previous)
        return TokenLogprob(token=text, logprob=log_prob, bytes=list(self._tokenizer.token_bytes(token_id)))
