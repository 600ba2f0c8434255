"""A conversation with a chat model: a `ChatSession` keeps the messages, and yields each reply in pieces of text.

Nothing here reads a keyboard or prints. A session works with any object that has the methods of `ChatModel`, so a chat
model may have a template different from that of lmzoo.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.conversation import Conversation, Message, assistant, user
from lmzoo.chat.template import end_id, render_prompt, shortened
from lmzoo.checks import check_count, check_seed
from lmzoo.errors import UsageError
from lmzoo.generation import Decoding, generate
from lmzoo.predictor import Predictor
from lmzoo.stream import EOT
from lmzoo.streaming import PieceDecoder

if TYPE_CHECKING:
    from lmzoo.chat.pretrained import PretrainedChat


class ChatModel(Protocol):
    """A model that replies in conversations, with its template, which writes conversations as token ids."""

    @property
    def context_size(self) -> int | None:
        """Largest number of tokens of conversation and reply together that the model sees; None if unlimited."""
        ...

    def prompt_ids(self, conversation: Conversation) -> NDArray[np.int32]:
        """Returns the token ids (T,) of a conversation, up to the start of the reply that the model is to write."""
        ...

    def shortened(self, conversation: Conversation, n_tokens: int) -> tuple[Conversation, int]:
        """Leaves out the earliest turns of a conversation with more than `n_tokens` `prompt_ids`.

        The system message and the last message are never left out. Returns the shortened conversation and the number of
        messages that were left out.
        """
        ...

    def sample(
        self, prompt_ids: NDArray[np.int32], *, rng: np.random.Generator, decoding: Decoding, max_tokens: int
    ) -> Iterator[int]:
        """Samples a reply, and yields its token ids, without the id that ends it."""
        ...

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yields the text of a reply in pieces of whole characters, while its token ids arrive."""
        ...


class ChatPredictor:
    """A chat model that lmzoo trained: a predictor whose tokenizer has the tokens of the chat template.

    Raises ConfigurationError for a predictor that was not trained on conversations.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._end_ids = frozenset((EOT, end_id(predictor.tokenizer)))
        self._model, self._tokenizer = predictor.model, predictor.tokenizer

    @property
    def context_size(self) -> int | None:
        return self._model.reach

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a reply."""
        return self._end_ids

    def prompt_ids(self, conversation: Conversation) -> NDArray[np.int32]:
        return render_prompt(conversation, self._tokenizer)

    def state_after(self, prompt_ids: NDArray[np.int32]) -> Any:
        """Returns the state of the language model after it has read the token ids (T,) of a conversation."""
        return self._model.state_after(self._model.visible(prompt_ids))

    def shortened(self, conversation: Conversation, n_tokens: int) -> tuple[Conversation, int]:
        return shortened(conversation, self._tokenizer, n_tokens - 1)  # a prompt ends with the token of the assistant

    def sample(
        self, prompt_ids: NDArray[np.int32], *, rng: np.random.Generator, decoding: Decoding, max_tokens: int
    ) -> Iterator[int]:
        tokens = generate(
            self._model, prompt_ids, rng=rng, decoding=decoding, max_tokens=max_tokens, end_ids=self._end_ids
        )
        for token in tokens:
            if token.token_id not in self._end_ids:
                yield token.token_id

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        return self.decoder().pieces(token_ids)

    def decoder(self) -> PieceDecoder:
        """Returns a decoder for the token ids of one reply."""
        special = frozenset(self._tokenizer.special_tokens.values())  # a token without text would hide the first space
        return PieceDecoder(self._tokenizer, drop_first_space=True, skipped=special)


def chat_model(predictor: Predictor) -> ChatPredictor | PretrainedChat:
    """Returns the chat model of a predictor, which may be trained by lmzoo or pretrained, with a template of its own.

    Raises ConfigurationError if the predictor was not trained on conversations.
    """
    if predictor.species != "huggingface":
        return ChatPredictor(predictor)
    from lmzoo.chat.pretrained import read_chat  # imports torch

    return read_chat(predictor)


class ChatSession:
    """A conversation with a chat model.

    `system` is the text of the system message; empty if there is none. `max_tokens` is the largest number of tokens of
    a reply. `temperature`, `top_k`, `top_p` and `min_p` change each predicted distribution as described for `Decoding`.
    The same `seed` gives the same replies to the same messages; with None, they differ each time.

        session = ChatSession(ChatPredictor(predictor), temperature=0.8, seed=0)
        "".join(session.reply_to("last word of: light upon waters"))  # 'verily, waters', say
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        system: str = "",
        max_tokens: int = 128,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
    ) -> None:
        check_count(1, max_tokens=max_tokens)
        check_seed(none_means="for an unpredictable seed", seed=seed)
        self.model = model
        self.decoding = Decoding(temperature, top_k, top_p, min_p)
        """The `Decoding` with which replies are sampled. A new one that is assigned applies from the next reply on."""
        self.max_tokens = max_tokens
        self.n_left_out = 0
        """Number of messages that the model did not see when it wrote its last reply, because they did not fit. They
        are the earliest ones, apart from the system message."""
        self._rng = np.random.default_rng(seed)
        self._system: Conversation = ()
        self._turns: list[Message] = []
        self.set_system(system)

    @property
    def messages(self) -> Conversation:
        """All messages so far, the system message first if there is one."""
        return (*self._system, *self._turns)

    def set_system(self, text: str) -> None:
        """Replaces the system message, or removes it if the text is empty. The other messages stay."""
        self._system = (Message("system", text),) if text else ()

    def reset(self) -> None:
        """Forgets all messages, except for the system message."""
        self._turns = []
        self.n_left_out = 0

    def reply_to(self, text: str) -> Generator[str]:
        """Adds a message by the user, and returns a generator that samples the reply and yields it in pieces of text.

        Each piece is added to `messages` before it is yielded. If the generator is closed, or is interrupted by Ctrl-C,
        the text so far therefore stays. Raises UsageError for a message that the template of the model refuses.
        """
        message = user(text)
        tokens = self._sample([*self._turns, message])
        self._turns.append(message)
        return self._reply(tokens)

    def retry(self) -> Generator[str]:
        """Removes the last reply, and returns a generator of a new one, like `reply_to`.

        Raises UsageError if there is no reply yet.
        """
        if not self._turns:
            raise UsageError("there is no reply yet that could be replaced: write a message first")
        tokens = self._sample(self._turns[:-1])
        self._turns.pop()
        return self._reply(tokens)

    def _sample(self, turns: list[Message]) -> Iterator[int]:
        """Returns the token ids of a reply to a conversation, whose earliest turns are left out if it is too long.

        They are sampled while the iterator is read.
        """
        conversation, left_out, size = (*self._system, *turns), 0, self.model.context_size
        if size is not None:
            conversation, left_out = self.model.shortened(conversation, max(size - self.max_tokens, size // 2))
        tokens = self.model.sample(
            self.model.prompt_ids(conversation), rng=self._rng, decoding=self.decoding, max_tokens=self.max_tokens
        )
        self.n_left_out = left_out
        return tokens

    def _reply(self, token_ids: Iterator[int]) -> Generator[str]:
        """Adds an empty reply to the messages, and returns a generator that adds the reply's text to it in pieces."""
        turns, index = self._turns, len(self._turns)
        turns.append(assistant(""))

        def pieces() -> Generator[str]:
            for piece in self.model.decode(token_ids):
                turns[index] = assistant(turns[index].content + piece)
                yield piece

        return pieces()
