"""The chat format of a pretrained model: conversations as token ids, in the form on which the model was trained.

A chat model comes with a template in the language Jinja, which writes a conversation as one text with control tokens,
such as `<|im_start|>user`. A template comes from outside, so transformers fills it in within a sandbox, where it can
neither call functions of Python nor change values. A message must not contain the text of a control token, because the
model could not tell it from the end of the message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, SavedModelError, UsageError, needs_extra
from lmzoo.generation import Decoding
from lmzoo.models.pretrained import PretrainedLM, n_positions, reading, special_ids_of
from lmzoo.models.pretrained_gguf import converted
from lmzoo.models.pretrained_names import installed_file
from lmzoo.stream import EOT
from lmzoo.system.messages import first_line

_MAX_TEMPLATE: Final = 1 << 18
"""Largest size of a template, in characters."""
_PROBE: Final = "lmzoo"
"""The text of the messages in a conversation that is rendered to find out which token follows a reply."""

Message = Mapping[str, str]
"""A message of a conversation: its "role", such as "user" or "assistant", and its "content"."""


@dataclass(frozen=True, eq=False)
class ChatFormat:
    """The chat format of a pretrained model: writes conversations as token ids, and samples replies.

    The ids are those of lmzoo, where end-of-text (EOT) has id 0: the model's own id for end-of-text and id 0 are
    exchanged.
    """

    end_ids: frozenset[int]
    """Ids of the tokens that end a reply of the model."""
    context_length: int
    """Largest number of tokens of conversation and reply together that the model reads."""
    _tokenizer: Any
    _eot_id: int
    """Id of the end-of-text token, as the pretrained model numbers it."""

    def encode(self, messages: Sequence[Message], *, with_reply: bool = True) -> NDArray[np.int32]:
        """Returns the token ids (T,) of a conversation.

        Each message is a mapping with strings under the keys "role" and "content". If `with_reply` is True, the ids end
        with the start of a reply, which the model then continues. EOT (id 0) may occur inside, because in many chat
        models it ends each message. `PretrainedLM.state_after_conversation` reads such ids, whereas other methods take
        EOT as the end of a text. Raises UsageError for messages that the template refuses, and for a message that
        contains the text of a control token.
        """
        for message in messages:
            if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
                raise UsageError(f"a message must have a text for 'role' and for 'content', got {dict(message)!r}")
            for text in self._control_texts():
                if text in message["content"] or text in message["role"]:
                    raise UsageError(f"a message contains {text!r}, which is a control token of the model: remove it")
        ids = self._tokenizer.encode(self._render(messages, with_reply=with_reply), add_special_tokens=False)
        return _exchanged(np.array(ids, np.int32), self._eot_id)

    def reply(
        self,
        model: PretrainedLM,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        decoding: Decoding | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Iterator[int]:
        """Samples a reply of `model` to the last message of a conversation, and yields its token ids.

        The id that ends the reply is not yielded. The reply is cut off after `max_tokens` tokens, or when conversation
        and reply fill the context. Raises UsageError as `encode` does, and for a conversation that leaves no room for a
        reply.
        """
        return self.sample(model, self.encode(messages), max_tokens=max_tokens, decoding=decoding, rng=rng)

    def sample(
        self,
        model: PretrainedLM,
        prompt_ids: NDArray[np.int32],
        *,
        max_tokens: int | None = None,
        decoding: Decoding | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Iterator[int]:
        """Samples a reply to a conversation that is given as token ids: `prompt_ids` (T,), which `encode` returns.

        Takes the same arguments as `reply` otherwise. Raises UsageError if the conversation leaves no room for a reply.
        """
        room = self.context_length - len(prompt_ids)
        if room < 1:
            raise UsageError(
                f"the conversation has {len(prompt_ids):,} tokens, but the model reads at most "
                f"{self.context_length:,}, and the reply needs some of them: leave out the first messages, or write a "
                "shorter message"
            )
        return self._sampled(model, prompt_ids, min(room, room if max_tokens is None else max_tokens), decoding, rng)

    def _sampled(
        self,
        model: PretrainedLM,
        ids: NDArray[np.int32],
        max_tokens: int,
        decoding: Decoding | None,
        rng: np.random.Generator | int | None,
    ) -> Iterator[int]:
        decoding, rng = decoding or Decoding(), np.random.default_rng(rng)
        state = model.state_after_conversation(ids)
        for number in range(max_tokens):
            token_id = decoding.sample(model.next_log_probs(state), rng)
            if token_id in self.end_ids:
                return
            yield token_id
            if number + 1 < max_tokens:
                state = model.advance(state, token_id)

    def _render(self, messages: Sequence[Message], *, with_reply: bool) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=with_reply
            )
        except Exception as error:  # a template can raise anything
            raise UsageError(f"the chat template of the model refuses these messages: {first_line(error)}") from error

    def _control_texts(self) -> list[str]:
        tokens = self._tokenizer.added_tokens_decoder.values()
        return [token.content for token in tokens if token.special]


def read_chat_format(source: str | Path) -> ChatFormat:
    """Returns the chat format of a pretrained model.

    `source` is the model's folder in the Hugging Face format, its GGUF file, or the name of an installed model, such as
    "smollm2". Raises ConfigurationError if the model has no chat template, SavedModelError if its files cannot be read,
    and MissingExtraError if a package that is needed to read them is not installed.
    """
    path = installed_file(source)
    folder = path if path.is_dir() else converted(path)
    with needs_extra("transformers", "hf", "a chat with a model of Hugging Face"):
        import transformers
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with reading(folder, transformers):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **options)
        config: Any = transformers.AutoConfig.from_pretrained(folder, **options).get_text_config()
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise ConfigurationError(
            f"{source} has no chat template, so it cannot hold a conversation: continue texts with lmzoo generate"
        )
    if len(template) > _MAX_TEMPLATE:
        raise SavedModelError(
            f"the chat template of {source} has {len(template):,} characters, but at most {_MAX_TEMPLATE:,} are allowed"
        )
    ids = special_ids_of(folder, config)
    without_ends = ChatFormat(frozenset(), n_positions(config), tokenizer, ids.eot)
    ends = {EOT, *_ids_after_reply(without_ends)}
    if isinstance(config.eos_token_id, list):
        ends |= set(_exchanged(np.array(config.eos_token_id, np.int32), ids.eot).tolist())
    return ChatFormat(frozenset(ends), without_ends.context_length, tokenizer, ids.eot)


def _ids_after_reply(chat: ChatFormat) -> list[int]:
    """Returns a list with the id of the control token that the template writes directly after a reply.

    The list is empty if the template writes ordinary text or nothing there, or refuses a conversation that ends with a
    reply.
    """
    messages = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
    try:
        text = chat._render(messages, with_reply=False)
    except UsageError:
        return []
    first = chat._tokenizer.encode(text.rpartition(_PROBE)[2], add_special_tokens=False)[:1]
    control = [token_id for token_id, token in chat._tokenizer.added_tokens_decoder.items() if token.special]
    return _exchanged(
        np.array([token_id for token_id in first if token_id in control], np.int32), chat._eot_id
    ).tolist()


def _exchanged(ids: NDArray[np.int32], eot_id: int) -> NDArray[np.int32]:
    """Exchanges two ids: 0, which is end-of-text in lmzoo, and `eot_id`, which is end-of-text in the model."""
    return np.where(ids == EOT, eot_id, np.where(ids == eot_id, EOT, ids)).astype(np.int32)
