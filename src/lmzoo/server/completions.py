"""The route `/v1/completions`: continues prompts, and scores them with `echo` and `logprobs`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from lmzoo.predictor import Predictor
from lmzoo.server.answering import Answer, respond
from lmzoo.server.batching import RunningText, Worker
from lmzoo.server.errors import ApiError
from lmzoo.server.generating import Delta, Outputs, check_bounds, continuations
from lmzoo.server.prompts import EncodedPrompt, as_several, read_prompts
from lmzoo.server.schemas import Choice, Completion, CompletionRequest, Logprobs, Usage
from lmzoo.server.scoring import ScoredToken, Spelling, score
from lmzoo.server.service import Service, service_of, token_texts
from lmzoo.stream import EOT
from lmzoo.streaming import PieceDecoder, drops_first_space
from lmzoo.tokenizers import Tokenizer

router = APIRouter()


@router.post("/v1/completions", response_model=Completion)
async def complete(body: CompletionRequest, request: Request) -> Response:
    """Continues one or several prompts.

    With `echo`, the answer begins with the prompt; with `logprobs` too, its tokens are scored.
    """
    service = service_of(request)
    worker = service.worker(body.model)
    check_bounds(body, service.limits, max_tokens=body.max_tokens, logprobs=body.logprobs or 0)
    n_choices = len(as_several(body.prompt, service.limits)) * body.n
    if n_choices > service.limits.choices:
        raise ApiError(f"at most {service.limits.choices} choices are allowed, got {n_choices}", param="n")
    outputs = Outputs(n_choices, each_token=body.stream)
    starting = worker.call(lambda predictor: _start(body, predictor, worker, outputs, service))
    return await respond(request, outputs, starting, stream=body.stream, headers=body.headers)


def _start(body: CompletionRequest, predictor: Predictor, worker: Worker, outputs: Outputs, service: Service) -> Answer:
    """Reads and scores the prompts of a request, and begins to continue them; runs in the thread of the worker."""
    tokenizer, model = predictor.tokenizer, predictor.model
    prompts = read_prompts(body.prompt, predictor, service.limits)
    scores: list[list[ScoredToken]] = []
    if body.echo and body.logprobs is not None:
        scores = [score(model, prompt.ids, body.logprobs) for prompt in prompts]
    texts: list[RunningText] = []
    for number, prompt in enumerate(prompts):
        before = prompt.ids.tolist()
        drops = drops_first_space(tokenizer, prompt.text, before)
        texts += continuations(
            body,
            outputs,
            prompt.ids,
            partial(PieceDecoder, tokenizer, before, drop_first_space=drops),
            first_choice=number * body.n,
            vocab_size=model.vocab_size,
            end_ids=(EOT,),
            max_tokens=body.max_tokens,
            k=body.logprobs,
        )
    worker.start(texts)
    return _Completions(body, predictor, outputs, service, worker.name, prompts, scores)


class _Completions(Answer):
    """The answer with the continuations of prompts. `scores` holds the scored tokens of each prompt, if wanted."""

    def __init__(
        self,
        body: CompletionRequest,
        predictor: Predictor,
        outputs: Outputs,
        service: Service,
        model: str,
        prompts: Sequence[EncodedPrompt],
        scores: Sequence[Sequence[ScoredToken]],
    ) -> None:
        n_read = sum(len(prompt.ids) for prompt in prompts)
        super().__init__(
            body, predictor, outputs, service.metrics, model=model, id_prefix="cmpl", n_prompt_tokens=n_read
        )
        self._choices = [
            _ChoiceText(index, body, predictor.tokenizer, prompt, scores[number] if scores else None)
            for number, prompt in enumerate(prompts)
            for index in range(number * body.n, (number + 1) * body.n)
        ]
        self._echoes = body.echo

    def add(self, delta: Delta) -> None:
        self._choices[delta.choice].add(delta)

    def whole(self, usage: Usage) -> Completion:
        return Completion(**self.head, choices=[choice.take() for choice in self._choices], usage=usage)

    def first_events(self) -> list[Completion]:
        return [self.next_event(choice) for choice in range(len(self._choices))] if self._echoes else []

    def next_event(self, choice: int) -> Completion:
        return Completion(**self.head, choices=[self._choices[choice].take()])

    def usage_event(self, usage: Usage) -> Completion:
        return Completion(**self.head, choices=[], usage=usage)


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
