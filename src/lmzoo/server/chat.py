"""The route `/v1/chat/completions`: replies of chat models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

from fastapi import APIRouter, Request, Response

from lmzoo.chat.conversation import Message, check_conversation
from lmzoo.chat.session import chat_model
from lmzoo.predictor import Predictor
from lmzoo.server.answering import Answer, respond
from lmzoo.server.batching import Worker
from lmzoo.server.errors import ApiError
from lmzoo.server.generating import Delta, Outputs, check_bounds, continuations
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
from lmzoo.server.service import Service, service_of, token_texts

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def reply(body: ChatRequest, request: Request) -> Response:
    """Replies to the last message of a conversation; the model must be a chat model."""
    service = service_of(request)
    worker = service.worker(body.model)
    name, max_tokens = "max_completion_tokens", body.max_completion_tokens
    if max_tokens is None:
        name, max_tokens = "max_tokens", body.max_tokens
    check_bounds(body, service.limits, **{name: max_tokens, "top_logprobs": body.top_logprobs})
    if body.top_logprobs and not body.logprobs:
        raise ApiError("top_logprobs needs 'logprobs': true", param="top_logprobs")
    outputs = Outputs(body.n, each_token=body.stream)
    starting = worker.call(lambda predictor: _start(body, max_tokens, predictor, worker, outputs, service))
    return await respond(request, outputs, starting, stream=body.stream, headers=body.headers)


def _start(
    body: ChatRequest, max_tokens: int, predictor: Predictor, worker: Worker, outputs: Outputs, service: Service
) -> Answer:
    """Reads a conversation and begins to reply; runs in the thread of the worker."""
    chat = chat_model(predictor)
    roles = {"developer": "system"}
    conversation = check_conversation(
        [Message(roles.get(message.role, message.role), message.content) for message in body.messages]
    )
    ids = chat.prompt_ids(conversation)
    check_size(len(ids), worker.limits, "messages")
    size = chat.context_size
    if size is not None:
        if len(ids) >= size:
            raise ApiError(
                f"the conversation has {len(ids):,} tokens with its template, but the model sees at most {size:,}, "
                "with the reply: shorten it, or leave out its first messages",
                param="messages",
                code="context_length_exceeded",
            )
        max_tokens = min(max_tokens, size - len(ids))
    texts = continuations(
        body,
        outputs,
        ids,
        chat.decoder,
        first_choice=0,
        vocab_size=predictor.model.vocab_size,
        end_ids=chat.end_ids,
        max_tokens=max_tokens,
        k=body.top_logprobs if body.logprobs else None,
        read_prompt=cache(lambda: chat.state_after(ids)),  # once for all replies
    )
    worker.start(texts)
    return _Replies(body, predictor, outputs, service, worker.name, len(ids), chat.end_ids)


class _Replies(Answer):
    """The answer with the replies to a conversation."""

    def __init__(
        self,
        body: ChatRequest,
        predictor: Predictor,
        outputs: Outputs,
        service: Service,
        model: str,
        n_prompt_tokens: int,
        end_ids: Collection[int],
    ) -> None:
        super().__init__(
            body,
            predictor,
            outputs,
            service.metrics,
            model=model,
            id_prefix="chatcmpl",
            n_prompt_tokens=n_prompt_tokens,
        )
        self._tokenizer, self._end_ids, self._has_logprobs = predictor.tokenizer, end_ids, body.logprobs
        self._new: list[list[Delta]] = [[] for _ in range(body.n)]
        self._previous: list[int | None] = [None] * body.n

    def add(self, delta: Delta) -> None:
        self._new[delta.choice].append(delta)

    def whole(self, usage: Usage) -> ChatCompletion:
        choices = [
            ChatChoice(
                index=index,
                message=ReplyMessage(content="".join(delta.text for delta in deltas)),
                logprobs=self._logprobs(index, deltas),
                finish_reason=deltas[-1].finish_reason or "stop",
            )
            for index, deltas in enumerate(self._new)
        ]
        return ChatCompletion(**self.head, choices=choices, usage=usage)

    def first_events(self) -> list[ChatChunk]:
        empty = {"role": "assistant", "content": ""}
        choices = [ChatChunkChoice(index=index, delta=empty, finish_reason=None) for index in range(len(self._new))]
        return [ChatChunk(**self.head, choices=[choice]) for choice in choices]

    def next_event(self, choice: int) -> ChatChunk:
        deltas, self._new[choice] = self._new[choice], []
        piece = ChatChunkChoice(
            index=choice,
            delta={"content": "".join(delta.text for delta in deltas)},
            logprobs=self._logprobs(choice, deltas),
            finish_reason=deltas[-1].finish_reason,
        )
        return ChatChunk(**self.head, choices=[piece])

    def usage_event(self, usage: Usage) -> ChatChunk:
        return ChatChunk(**self.head, choices=[], usage=usage)

    def _logprobs(self, index: int, deltas: Sequence[Delta]) -> ChatLogprobs | None:
        """Returns the log-probabilities of the tokens of a reply, without the one that ends it; None = not wanted."""
        if not self._has_logprobs:
            return None
        tokens = [delta.token for delta in deltas if delta.token and delta.token.token_id not in self._end_ids]
        return ChatLogprobs(content=[self._content(index, token) for token in tokens])

    def _content(self, index: int, token: ScoredToken) -> ContentLogprob:
        previous, self._previous[index] = self._previous[index], token.token_id
        top = [self._token(*pair, previous) for pair in token.top]
        return ContentLogprob(**self._token(token.token_id, token.log_prob, previous).model_dump(), top_logprobs=top)

    def _token(self, token_id: int, log_prob: float, previous: int | None) -> TokenLogprob:
        text = token_texts(self._tokenizer).text_after(token_id, previous)
        return TokenLogprob(token=text, logprob=log_prob, bytes=list(self._tokenizer.token_bytes(token_id)))
