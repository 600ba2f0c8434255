"""The requests and answers of the server, as pydantic models.

Every parameter of OpenAI's API is either a field of a request here, or ignored because it cannot change the answer, or
refused unless it has a value that asks for nothing. Unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

UNSUPPORTED = "unsupported_parameter"
"""The type of the error for a parameter that is refused."""

COMPLETION_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "suffix": ("",),
}
"""Parameters of `/v1/completions` that are refused, each with the values that are accepted because they do nothing."""
COMPLETION_IGNORED = frozenset({"user"})
"""Parameters of `/v1/completions` that are ignored."""
CHAT_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}
"""Parameters of `/v1/chat/completions` that are refused, each with the values that are accepted."""
CHAT_IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
"""Parameters of `/v1/chat/completions` that are ignored."""

TokenId = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
Prompt = str | list[TokenId] | list[str] | list[list[TokenId]]
"""One text or several, as text or as token ids."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _none_if_off(value: Any) -> Any:
    """Returns None for the values of `top_k` that switch it off in other servers, 0 and -1; other values unchanged."""
    return None if value in (0, -1) else value


class Parameters(BaseModel):
    """The parameters of a request, or of a part of it. A value of null stands for the default."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return (
            {name: value for name, value in values.items() if value is not None} if isinstance(values, dict) else values
        )


class StreamOptions(Parameters):
    """Options of a stream."""

    include_usage: bool = False


class SamplingRequest(Parameters):
    """The parameters that completions and chat completions share."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset()

    model: str = ""
    """Name of a model; may be left out if the server has one only."""
    max_tokens: Annotated[int, Field(ge=0)] = 16
    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_none_if_off)] = None
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    n: Annotated[int, Field(ge=1)] = 1
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], BeforeValidator(_as_list)] = []
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="after")
    def _without_refused(self) -> SamplingRequest:
        for name, value in (self.model_extra or {}).items():
            if name in self.refused and value not in self.refused[name]:
                message = "the parameter '{name}' is not supported by this server: leave it out"
                raise PydanticCustomError(UNSUPPORTED, message, {"name": name})
        return self

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: they list the fields that neither OpenAI's API nor this server knows."""
        known = self.ignored | self.refused.keys()
        unknown = [
            name for name in self.model_extra or {} if name not in known and re.fullmatch(r"[\w-]{1,50}", name, re.A)
        ]
        return {"x-ignored-fields": ", ".join(unknown[:20])} if unknown else {}


class CompletionRequest(SamplingRequest):
    """A request to continue prompts."""

    refused = COMPLETION_REFUSED
    ignored = COMPLETION_IGNORED

    prompt: Prompt = ""
    logprobs: Annotated[
        Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda value: None if value is False else value)
    ] = None
    """Number of most likely tokens to list at each position."""
    echo: bool = False
    best_of: int | None = None
    """Number of completions from which the `n` best are chosen. Only `n` itself is supported."""
    return_tokens_as_token_ids: bool = False
    """Writes each token as "token_id:" and its id, so that different tokens have different names."""

    @model_validator(mode="after")
    def _returns_all_completions(self) -> CompletionRequest:
        if self.best_of not in (None, self.n):
            message = "the parameter '{name}' is not supported by this server unless it is equal to 'n': leave it out"
            raise PydanticCustomError(UNSUPPORTED, message, {"name": "best_of"})
        return self


def _as_text(value: Any) -> Any:
    """Returns the text of a message that is written as a list of parts; other values unchanged."""
    if not isinstance(value, list):
        return value
    parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
    texts = [text for text in parts if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(value) else value


class ChatMessage(BaseModel):
    """A message of a conversation; its content is a text, or a list of parts that are texts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_as_text)]


class ChatRequest(SamplingRequest):
    """A request to answer the last message of a conversation."""

    refused = CHAT_REFUSED
    ignored = CHAT_IGNORED

    messages: list[ChatMessage]
    max_tokens: Annotated[int, Field(ge=0)] = 128
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    """The newer name of `max_tokens`; it takes precedence."""
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0)] = 0
    """Number of most likely tokens to list at each position, with `logprobs`."""


class TokenizeRequest(Parameters):
    """A text to encode; `content` is another name of `prompt`."""

    model: str = ""
    prompt: str | None = None
    content: str | None = None
    return_token_strs: bool = False


class DetokenizeRequest(Parameters):
    """Token ids to decode."""

    model: str = ""
    tokens: list[TokenId]


class DistributionRequest(Parameters):
    """Contexts after which the next token is predicted."""

    model: str = ""
    prompt: Prompt = ""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Number of most likely tokens to return; all if it is left out."""


class Usage(BaseModel):
    """The number of tokens of a request and of its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(BaseModel):
    """The log-probabilities of T tokens in nats, before temperature and the other settings are applied.

    Each list has T entries. A first token without a prediction has the entry null.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(BaseModel):
    """One continuation of a prompt, or a piece of one in a stream."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: str | None


class Completion(BaseModel):
    """An answer with continuations, or one event of its stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage | None = None


class TokenLogprob(BaseModel):
    """A token of a reply with its log-probability in nats and its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob):
    """A token of a reply with the most likely tokens at its position."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """The log-probabilities of the tokens of a reply."""

    content: list[ContentLogprob]
    refusal: None = None


class ReplyMessage(BaseModel):
    """A reply of a chat model."""

    role: str = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One reply to a conversation."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str


class ChatChunkChoice(BaseModel):
    """A piece of a reply in a stream."""

    index: int
    delta: dict[str, str]
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None


class ChatCompletion(BaseModel):
    """An answer with replies."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatChunk(BaseModel):
    """An event of a stream of replies."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
