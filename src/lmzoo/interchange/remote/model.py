"""`RemoteModel`: a language model behind an OpenAI-compatible HTTP interface."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lmzoo.checks import check_at_least, check_count, check_positive, check_seed, check_share
from lmzoo.errors import ConfigurationError, RemoteError
from lmzoo.interchange.remote.address import Address
from lmzoo.interchange.remote.answers import Answer, ModelList, ScoredToken, Usage, scored_tokens
from lmzoo.interchange.remote.connection import Connection, error_message, one_line
from lmzoo.interchange.remote.surprisals import RemoteSurprisals, align
from lmzoo.streaming import stop_strings
from lmzoo.system.json_files import parse_as, parse_json

Kind = TypeVar("Kind")
LIMIT_VARIABLE = "LMZOO_TOKEN_LIMIT"
"""Environment variable: the default of `token_limit`."""
_DEFAULT_LIMIT = 1_000_000
_BYTES_PER_TOKEN = 3
"""Bytes of text that are counted as one token if the server does not count; English has about four."""
_COUNTING = "One, two, three, four, five,"
"""A text after which most models are sure of the next token."""
_TOLERANCE = 0.5
"""Largest relative difference between two probabilities of a token that is taken for imprecision of the server."""
_COMPLETIONS, _CHAT, _MODELS = "/completions", "/chat/completions", "/models"


@dataclass(frozen=True)
class TopTokens:
    """The most likely next tokens under a remote model, with the probability of all others."""

    tokens: list[tuple[str, float]]
    """Pairs (text, probability), most likely first; different tokens can have the same text."""
    unassigned: float
    """Probability of all tokens that are not listed."""


class RemoteModel:
    """A language model on a server that has the HTTP interface of OpenAI, such as llama.cpp or vLLM.

    The methods raise RemoteError, with a message of one line that names the URL, if the server cannot be reached,
    refuses a request or gives an answer that cannot be used, and if the token limit would be exceeded.
    """

    def __init__(
        self,
        address: str,
        *,
        token_limit: int | None = None,
        timeout: tuple[float, float] = (10, 120),
        tries: int = 5,
    ) -> None:
        """Creates a remote model; no request is sent yet.

        `address` is the base URL and the name of the model, as in "http://127.0.0.1:8000/v1#gpt2". The name can be left
        out if the server has one model. `token_limit` is how many tokens of prompts and completions this object may use
        in total; None stands for the environment variable LMZOO_TOKEN_LIMIT, or a million. `timeout` are the seconds to
        wait for a connection, and for the next bytes of an answer. `tries` is how often a request is sent at most. The
        API key is read from the environment variable LMZOO_API_KEY, or OPENAI_API_KEY if it is not set. Raises
        ConfigurationError for wrong arguments.
        """
        parsed = Address.parse(address)
        check_count(1, tries=tries)
        check_positive(connection_timeout=timeout[0], reading_timeout=timeout[1])
        check_count(1, none_means="the default", token_limit=token_limit)
        self.url = parsed.url
        self.token_limit = _default_limit() if token_limit is None else token_limit
        self.tokens_used = 0
        """Tokens of prompts and completions so far: as counted by the server, or estimated if it does not count."""
        self._model = parsed.model
        self._has_right_positions = False
        self._connection = Connection(parsed, timeout=timeout, tries=tries)

    def __repr__(self) -> str:
        return f"<RemoteModel {self._model or 'the only model'} at {self.url}>"

    @property
    def model(self) -> str:
        """The name of the model on the server; if the address has none, the server is asked for its only model."""
        if self._model is None:
            listed = self._parse(_MODELS, ModelList, self._connection.get(_MODELS)).data
            if len(listed) != 1:
                names = ", ".join(model.id for model in listed[:10])
                raise self._error(
                    _MODELS, f"lists {len(listed)} models: choose one with {self.url}#MODEL ({one_line(names)})"
                )
            self._model = listed[0].id
        return self._model

    # ---- Probabilities --------------------------------------------------------------------------

    def top_tokens(self, prompt: str, k: int = 10) -> TopTokens:
        """Returns the most likely tokens after a prompt, at most `k`, with the probability of all other tokens.

        Servers may give fewer than `k`; OpenAI gives 5. The probabilities are those of the server, at temperature 1.
        """
        check_count(1, k=k)
        answer = self._complete(prompt, max_tokens=1, logprobs=int(k), temperature=1, top_p=1)
        tokens = self._scored(answer)
        if not tokens or not tokens[0].top:
            ended = "ended the text after this prompt, so it gave no next token"
            missing = "gave no log-probabilities of the next token: it does not honour `logprobs`"
            raise self._error(_COMPLETIONS, missing if answer.choices[0].content else ended)
        best = [(text, math.exp(log_prob)) for text, log_prob in tokens[0].top[:k]]
        return TopTokens(best, max(0.0, 1 - sum(probability for _, probability in best)))

    def surprisals(self, text: str) -> RemoteSurprisals:
        """Returns the surprisal of each token of a text, given the text before it, as a list.

        The first token usually has none (its `surprisal_bits` is None), and the end of the text is not scored. Raises
        RemoteError if the server does not return the log-probabilities of the prompt, and ConfigurationError for an
        empty text.
        """
        if not text:
            raise ConfigurationError("a text without characters has no tokens to score, got ''")
        self._check_positions()
        return self._echoed(text)

    def _check_positions(self) -> None:
        """Raises RemoteError if the server scores the tokens of a prompt at wrong positions.

        The check compares the probability of a token as the server predicts it, and as the server gives it when it
        repeats a prompt that ends with this token. In some servers, the probabilities of a repeated prompt are shifted:
        each token gets the one of the position after it. llama-cpp-python 0.3 does so for models without a start token.
        The check needs a few short requests, and is made once for each RemoteModel.
        """
        if self._has_right_positions:
            return
        for text, predicted in self.top_tokens(_COUNTING, 5).tokens:
            last = self._echoed(_COUNTING + text)[-1]
            if last.text == text and last.surprisal_bits is not None:
                echoed = 2**-last.surprisal_bits
                if abs(echoed - predicted) > _TOLERANCE * predicted:
                    raise self._error(
                        _COMPLETIONS,
                        f"gives {one_line(repr(text))} after {_COUNTING!r} the probability {predicted:.3f} as a "
                        f"prediction, but {echoed:.3f} in an echoed prompt: it scores the tokens of a prompt at wrong "
                        "positions",
                    )
                break
        self._has_right_positions = True

    def _echoed(self, text: str) -> RemoteSurprisals:
        """Returns the surprisals of a text, from one request that asks for an echo of the prompt."""
        # One token is generated and left out, because some servers take 0 for no limit.
        answer = self._complete(text, max_tokens=1, logprobs=1, echo=True, temperature=1)
        tokens = self._scored(answer)
        try:
            surprisals = _of_prompt(text, tokens, answer)
        except ValueError as error:
            raise self._error(_COMPLETIONS, f"cannot score the text: {error}") from error
        if surprisals is None and len(tokens) <= 1:
            raise self._error(
                _COMPLETIONS,
                "returned no log-probabilities of the prompt, so it cannot score a given text: it ignores `echo`",
            )
        if surprisals is None:
            raise self._error(
                _COMPLETIONS,
                f"returned {len(tokens)} tokens that do not make up the prompt: it ignores `echo`, or changes the text",
            )
        if len(surprisals) > 1 and not surprisals.scored:
            raise self._error(_COMPLETIONS, "returned the tokens of the prompt without log-probabilities")
        return surprisals

    # ---- Text -----------------------------------------------------------------------------------

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> str:
        """Continues a prompt and returns the sampled continuation, without the prompt.

        The continuation ends when the model ends the text, before the first of the `stop` strings, or after
        `max_tokens` tokens. `temperature` and `top_p` are those of the server. Servers may ignore `seed`, or take no
        more than four stop strings.
        """
        sampling = _sampling(temperature, top_p, seed, stop)
        check_count(1, max_tokens=max_tokens)
        return self._complete(prompt, max_tokens=max_tokens, **sampling).choices[0].content

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """Continues a prompt and yields the continuation piece by piece, as the server sends it.

        The pieces join to the text that `complete` returns for the same arguments.
        """
        sampling = _sampling(temperature, top_p, seed, stop)
        check_count(1, max_tokens=max_tokens)
        return self._stream(_COMPLETIONS, {"prompt": prompt, "max_tokens": max_tokens, **sampling}, prompt)

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int = 1000,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """Continues a conversation and yields the reply piece by piece, as the server sends it.

        `messages` are the messages so far, each with the keys "role" ("system", "user" or "assistant") and "content".
        The other arguments are those of `complete`: `max_tokens`, `temperature`, `top_p`, `seed` and `stop`. Raises
        ConfigurationError for a message with other keys.
        """
        for message in messages:
            if set(message) != {"role", "content"}:
                raise ConfigurationError(f"a message must have the keys role and content, got {', '.join(message)}")
        sampling = _sampling(temperature, top_p, seed, stop)
        check_count(1, max_tokens=max_tokens)
        body = {"messages": [dict(message) for message in messages], "max_tokens": max_tokens, **sampling}
        return self._stream(_CHAT, body, "".join(message["content"] for message in messages))

    # ---- Requests -------------------------------------------------------------------------------

    def _complete(self, prompt: str, **settings: Any) -> Answer:
        """Returns the answer to a request for a completion; it has at least one choice."""
        self._check_limit(_COMPLETIONS, prompt, settings["max_tokens"])
        body = {"model": self.model, "prompt": prompt, **settings}
        answer = self._parse(_COMPLETIONS, Answer, self._connection.post(_COMPLETIONS, body))
        if not answer.choices:
            raise self._error(_COMPLETIONS, "answered without a choice")
        self._count(answer.usage, _estimated_tokens(prompt), _estimated_tokens(answer.choices[0].content))
        return answer

    def _stream(self, route: str, body: dict[str, Any], prompt: str) -> Iterator[str]:
        """Sends a request with a streamed answer, and yields the pieces of the text."""
        self._check_limit(route, prompt, body["max_tokens"])
        usage, n_pieces, is_complete = None, 0, False
        try:
            for event in self._connection.events(route, {"model": self.model, "stream": True, **body}):
                if event == "[DONE]":
                    is_complete = True
                    break
                answer = self._parse(route, Answer, event)
                usage = answer.usage or usage
                for choice in answer.choices[:1]:
                    is_complete |= choice.finish_reason is not None
                    if choice.content:
                        n_pieces += 1
                        yield choice.content
        finally:  # also if the caller does not read the whole text
            self._count(usage, _estimated_tokens(prompt), n_pieces)
        if not is_complete:
            raise self._error(route, "ended the stream in the middle of the text: the text is incomplete")

    def _parse(self, route: str, kind: type[Kind], text: str) -> Kind:
        """Parses JSON of the server as an instance of `kind`."""
        try:
            value = parse_json(text)
            if isinstance(value, dict) and value.get("error"):
                raise self._error(route, f"reported an error: {error_message(text)}")
            return parse_as(kind, text)
        except ValueError as error:
            if text.lstrip().startswith("<"):
                raise self._error(
                    route, "answered with HTML or XML instead of JSON: the URL may be wrong (it usually ends in /v1)"
                ) from error
            raise self._error(route, f"gave an unusable answer: {one_line(str(error))}") from error

    def _scored(self, answer: Answer) -> list[ScoredToken]:
        try:
            return scored_tokens(answer.choices[0].logprobs)
        except ValueError as error:
            raise self._error(_COMPLETIONS, f"gave unusable log-probabilities: {error}") from error

    def _check_limit(self, route: str, prompt: str, max_tokens: int) -> None:
        """Raises RemoteError if a request could exceed the token limit."""
        needed = _estimated_tokens(prompt) + max_tokens
        if self.tokens_used + needed > self.token_limit:
            raise self._error(
                route,
                f"was not asked: {self.tokens_used:,} of {self.token_limit:,} tokens are used, and this request may "
                f"need {needed:,} more: raise the token limit ({LIMIT_VARIABLE})",
            )

    def _count(self, usage: Usage | None, prompt_tokens: int, completion_tokens: int) -> None:
        """Adds the tokens of a request and of its answer to `tokens_used`, as the server counts them in `usage`.

        `prompt_tokens` and `completion_tokens` are estimates, used where the server sends no count.
        """
        self.tokens_used += (usage and usage.prompt_tokens) or prompt_tokens
        self.tokens_used += (usage and usage.completion_tokens) or completion_tokens

    def _error(self, route: str, message: str) -> RemoteError:
        return self._connection.error(route, message)


def _of_prompt(text: str, tokens: list[ScoredToken], answer: Answer) -> RemoteSurprisals | None:
    """Returns the surprisals of a prompt `text` that a server has repeated; None if the server has not repeated it.

    `tokens` are those of the prompt, followed by the generated token. Some servers leave out the generated token, but
    count it in the `usage` of the answer.
    """
    n_generated = answer.usage.completion_tokens if answer.usage else None
    surprisals = align(text, tokens[: len(tokens) - (1 if n_generated is None else n_generated)])
    is_only_generated = len(tokens) == 1 and answer.choices[0].content == text
    return align(text, tokens) if surprisals is None and not is_only_generated else surprisals


def _default_limit() -> int:
    text = os.environ.get(LIMIT_VARIABLE, str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19):
        raise ConfigurationError(f"{LIMIT_VARIABLE} must be a number of tokens, got {text[:40]!r}")
    return int(text)


def _sampling(temperature: float, top_p: float, seed: int | None, stop: str | Sequence[str]) -> dict[str, Any]:
    """Returns the fields of a request that control sampling; what is not set is left to the server."""
    check_at_least(0, temperature=temperature)
    check_share(top_p=top_p)
    check_seed(none_means="a different text each time", seed=seed)
    strings = stop_strings(stop)
    fields: dict[str, Any] = {"temperature": float(temperature), "top_p": float(top_p)}
    return fields | ({} if seed is None else {"seed": int(seed)}) | ({"stop": strings} if strings else {})


def _estimated_tokens(text: str) -> int:
    return -(-len(text.encode(errors="surrogatepass")) // _BYTES_PER_TOKEN)
