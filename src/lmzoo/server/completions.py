"""The route `/v1/completions`: continues prompts, and scores them with `echo` and `logprobs`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse

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
from lmzoo.server.prompts import EncodedPrompt, read_prompts
from lmzoo.server.schemas import Choice, Completion, CompletionRequest, Logprobs, Usage
from lmzoo.server.scoring import ScoredToken, Spelling, score
from lmzoo.server.service import Service, fingerprint, service_of, token_texts, while_connected
from lmzoo.stream import EOT
from lmzoo.streaming import PieceDecoder, drops_first_space
from lmzoo.tokenizers import Tokenizer

router = APIRouter()


@dataclass(frozen=True, eq=False)
class _Started:
    """A request whose texts are being continued."""

    predictor: Predictor
    prompts: list[EncodedPrompt]
    scores: list[list[ScoredToken]]
    """The scored tokens of each prompt, if they are asked for."""


@router.post("/v1/completions", response_model=Completion)
async def complete(body: CompletionRequest, request: Request) -> Response:
    """Continues one or several prompts.

    With `echo`, the answer begins with the prompt; with `logprobs` too, its tokens are scored.
    """
    service = service_of(request)
    worker = service.worker(body.model)
    check_bounds(body, service.limits, max_tokens=body.max_tokens, k=body.logprobs or 0)
    n_choices = _n_prompts(body) * body.n
    if n_choices > service.limits.choices:
        raise ApiError(f"at most {service.limits.choices} choices are allowed, got {n_choices}", param="n")
    outputs = Outputs(n_choices, each_token=body.stream)
    try:
        started = await while_connected(
            request, worker.call(lambda predictor: _start(body, predictor, worker, outputs, service))
        )
        answer = _Answer(body, worker.name, started, outputs, service)
        if body.stream:
            return EventSourceResponse(answer.events(request), headers=body.headers)
        text = (await while_connected(request, answer.whole())).model_dump_json()
        return Response(text, media_type="application/json", headers=body.headers)
    except BaseException:
        outputs.close()
        raise


def _n_prompts(body: CompletionRequest) -> int:
    several = isinstance(body.prompt, list) and body.prompt and not isinstance(body.prompt[0], int)
    return len(body.prompt) if several else 1


def _start(
    body: CompletionRequest, predictor: Predictor, worker: Worker, outputs: Outputs, service: Service
) -> _Started:
    """Reads and scores the prompts of a request, and begins to continue them; runs in the thread of the worker."""
    tokenizer, model = predictor.tokenizer, predictor.model
    prompts = read_prompts(body.prompt, predictor, service.limits)
    bias, decoding = bias_of(body, model.vocab_size), decoding_of(body)
    scores: list[list[ScoredToken]] = []
    if body.echo and body.logprobs is not None:
        scores = [score(model, prompt.ids, body.logprobs) for prompt in prompts]
    texts: list[RunningText] = []
    for number, prompt in enumerate(prompts):
        before = prompt.ids.tolist()
        drops = drops_first_space(tokenizer, prompt.text, before)
        for index, rng in enumerate(generators(body.seed, body.n), start=number * body.n):
            if not body.max_tokens:
                outputs.put(Delta(index, "", None, "length"))
                continue
            writer = TextWriter(
                index,
                outputs,
                PieceDecoder(tokenizer, before, drop_first_space=drops),
                stop=body.stop,
                end_ids=(EOT,),
                max_tokens=body.max_tokens,
                k=body.logprobs,
            )
            texts.append(
                RunningText(
                    prompt.ids, rng, decoding, writer.add_token, outputs.put, outputs.is_closed, bias=bias
                )
            )  # fmt: skip
    worker.start(texts)
    return _Started(predictor, prompts, scores)


class _Answer:
    """The answer to a request, as one object or as a stream of events."""

    def __init__(
        self, body: CompletionRequest, model: str, started: _Started, outputs: Outputs, service: Service
    ) -> None:
        self._body, self._model, self._outputs, self._metrics = body, model, outputs, service.metrics
        self._n_prompt_tokens = sum(len(prompt.ids) for prompt in started.prompts)
        self._head = {
            "id": f"cmpl-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint(started.predictor),
        }
        self._choices = [
            _ChoiceText(index, body, started.predictor.tokenizer, started.prompts[number], _at(started.scores, number))
            for number in range(len(started.prompts))
            for index in range(number * body.n, (number + 1) * body.n)
        ]

    async def whole(self) -> Completion:
        """Returns the complete answer."""
        async for deltas in self._outputs.batches():
            for delta in deltas:
                self._choices[delta.choice].add(delta)
        return self._completion([choice.take() for choice in self._choices], self._usage())

    async def events(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the answer as server-sent events; an error becomes the last of them."""
        batches = self._outputs.batches()
        waiting = set(range(len(self._choices))) if self._body.echo else set[int]()  # choices that begin with a prompt
        try:
            while (deltas := await while_connected(request, anext(batches, None))) is not None:
                for delta in deltas:
                    self._choices[delta.choice].add(delta)
                for index in sorted(waiting | {delta.choice for delta in deltas}):
                    yield event(self._completion([self._choices[index].take()]))
                waiting.clear()
            usage = self._usage()
            if self._body.stream_options.include_usage:
                yield event(self._completion([], usage))
        except Exception as error:
            yield event(as_api_error(error).body)
        finally:
            self._outputs.close()
        yield DONE

    def _usage(self) -> Usage:
        """Returns the number of tokens, and adds it to the metrics of the server."""
        n_read, n_generated = self._n_prompt_tokens, self._outputs.n_tokens
        self._metrics.prompt_tokens.labels(self._model).inc(n_read)
        self._metrics.completion_tokens.labels(self._model).inc(n_generated)
        return Usage(prompt_tokens=n_read, completion_tokens=n_generated, total_tokens=n_read + n_generated)

    def _completion(self, choices: list[Choice], usage: Usage | None = None) -> Completion:
        return Completion(**self._head, choices=choices, usage=usage)


class _ChoiceText:
    """The text of a choice, with its log-probabilities, as far as it has not been sent."""

    def __init__(
        self,
        index: int,
        body: CompletionRequest,
        tokenizer: Tokenizer,
        prompt: EncodedPrompt,
        scores: Sequence[ScoredToken] | None,
    ) -> None:
        self._index, self._uses_ids = index, body.return_tokens_as_token_ids
        self._texts = token_texts(tokenizer)
        self._text, self._finish_reason = prompt.text if body.echo else "", None
        self._has_logprobs = body.logprobs is not None
        self._logprobs = self._no_logprobs()
        self._spelling = Spelling(tokenizer, self._texts)
        if scores is not None:
            for number, token in enumerate(scores):
                self._add_token(token, is_predicted=number > 0)
        if self._has_logprobs:
            self._spelling = Spelling(tokenizer, self._texts, prompt.ids.tolist(), len(prompt.text))

    def add(self, delta: Delta) -> None:
        """Adds a delta to what will be sent."""
        self._text += delta.text
        if delta.token is not None:
            self._add_token(delta.token)
        self._finish_reason = delta.finish_reason

    def take(self) -> Choice:
        """Returns what has not been sent yet."""
        logprobs = self._logprobs if self._has_logprobs else None
        choice = Choice(index=self._index, text=self._text, logprobs=logprobs, finish_reason=self._finish_reason)
        self._text, self._logprobs = "", self._no_logprobs()
        return choice

    def _add_token(self, token: ScoredToken, *, is_predicted: bool = True) -> None:
        previous = self._spelling.previous
        text, offset = self._spelling.add(token.token_id)
        text = self._name(token.token_id, text)
        self._logprobs.tokens.append(text)
        self._logprobs.text_offset.append(offset)
        self._logprobs.token_logprobs.append(token.log_prob if is_predicted else None)
        self._logprobs.top_logprobs.append(self._top(token, text, previous) if is_predicted else None)

    def _top(self, token: ScoredToken, text: str, previous: int | None) -> dict[str, float]:
        """Returns the log-probabilities of the most likely tokens and of the token itself, by their texts."""
        top = {text: token.log_prob}
        for token_id, log_prob in token.top:
            if token_id != token.token_id:
                name = self._name(token_id, self._texts.text_after(token_id, previous))
                top[f"token_id:{token_id}" if name in top else name] = log_prob
        return top

    def _name(self, token_id: int, text: str) -> str:
        return f"token_id:{token_id}" if self._uses_ids else text

    @staticmethod
    def _no_logprobs() -> Logprobs:
        return Logprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])


def _at(scores: Sequence[Sequence[ScoredToken]], number: int) -> Sequence[ScoredToken] | None:
    return scores[number] if scores else None
