"""Context mixing in plain Python, without hash tables: contexts are tuples, and a counter is the list of its bits."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import hash_combine, leaf_of
from lmzoo.models.context_mixing.contexts import hashed, letter
from lmzoo.stream import EOT

BYTES = 257
State = tuple[Any, ...]


def stretch(prob: float) -> float:
    """Returns ln(p / (1 - p)) for the middle p of one of 4,096 intervals of probabilities."""
    middle = (min(int(prob * 4096), 4095) + 0.5) / 4096
    return math.log(middle / (1 - middle))


def squash(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


class Counter:
    """The bits that followed a context and the first bits of a token."""

    def __init__(self) -> None:
        self.bits: list[int] = []
        self.share = 1 << 15

    def add(self, bit: int) -> None:
        n = min(len(self.bits), 127)
        self.share += math.floor(Fraction(65535 * bit - self.share) / (n + Fraction(3, 2)))
        self.bits.append(bit)

    @property
    def state(self) -> State:
        n = len(self.bits)
        if n <= 8:
            return tuple(self.bits)
        size = sum(n >= least for least in (14, 24, 64))
        level = math.trunc((stretch(self.share / 65536) + 6) / 12 * 16)
        return ("late", *self.bits[-3:], min(max(level, 0), 15), size)


class Average:
    """A probability that is learned: the average of zeros and ones, at the end a moving one."""

    def __init__(self, prob: float, limit: int, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.prob, self.limit, self.dtype, self.n = float(dtype(prob)), limit, dtype, 0

    def add(self, bit: float) -> None:
        self.prob += (bit - self.prob) / (self.n + 1.5)
        self.prob = float(self.dtype(self.prob))
        self.n = min(self.n + 1, self.limit)


def first_meaning(state: State) -> float:
    """Returns the probability of a 1 in a state before anything was learned about it."""
    if state[0] == "late":
        return squash((state[4] + 0.5) / 16 * 12 - 6)
    weights = [0.9 ** (len(state) - 1 - place) for place in range(len(state))]
    return (sum(w for w, bit in zip(weights, state, strict=True) if bit) + 0.4) / (sum(weights) + 0.8)


class SlowMixing:
    """Predicts tokens and learns them; `text` holds the tokens read so far, and `document` those of the document.

    `given` are the log-probabilities (T, V) of all V tokens at each position, under each of several other models.
    """

    def __init__(
        self, vocab_size: int, *, n_curve_rows: int, words: bool = True, given: Sequence[NDArray[np.float64]] = ()
    ) -> None:
        self.given, self.code_words = (
            given,
            [f"{leaf_of(token_id, vocab_size):b}"[1:] for token_id in range(vocab_size)],
        )
        self.vocab_size, self.n_curve_rows = vocab_size, n_curve_rows
        self.has_words = words and vocab_size == BYTES
        width = vocab_size.bit_length() - 1
        self.least = [min(tokens, math.ceil(bits / width)) for tokens, bits in ((12, 96), (7, 56))]
        self.text: list[int] = []
        self.document: list[int] = []
        self.counters: dict[Any, Counter] = defaultdict(Counter)
        self.meanings: dict[Any, Average] = {}
        self.trust: dict[tuple[int, int], Average] = {}
        self.followers: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self.places: list[dict[tuple[int, ...], int]] = [{}, {}]
        self.found, self.lengths = [-1, -1], [0, 0]
        n_contexts = 17 + 17 * self.has_words
        start = [3.3 / n_contexts, 0, 2.2 / n_contexts] * n_contexts + [0.2, 0] * 2 + [0.3, 0] * len(given) + [0]
        self.weights: dict[Any, NDArray[np.float32]] = defaultdict(lambda: np.array(start, np.float32))
        self.last_weights: dict[Any, NDArray[np.float64]] = defaultdict(lambda: np.full(10, 1 / 10))
        self.curves: dict[Any, NDArray[np.float32]] = defaultdict(lambda: np.zeros(25, np.float32))

    # ---- Contexts -------------------------------------------------------------------------------

    def recent(self, n: int) -> list[int]:
        """Returns the last n tokens, the last one first."""
        return [self.document[-d] if d <= len(self.document) else EOT for d in range(1, n + 1)]

    def words(self) -> list[str]:
        """Returns all words in small letters, the last one first, which may be empty, and four empty words."""
        text = bytes(token_id - 1 for token_id in self.document)
        words = re.findall(rb"[A-Za-z\x80-\xff]+", text)
        if not re.search(rb"[A-Za-z\x80-\xff]\Z", text):
            words.append(b"")
        lowered = ["".join(chr(byte + 32 if 65 <= byte <= 90 else byte) for byte in word) for word in words[::-1]]
        return [*lowered, "", "", "", ""]

    def first_word(self) -> str:
        """Returns the first word of the line, in small letters, if another character follows it; else an empty word."""
        line = bytes(token_id - 1 for token_id in self.document).decode("latin-1").split("\n")[-1]
        match = re.search(r"([A-Za-z\x80-\xff]+)[^A-Za-z\x80-\xff]", line)
        return re.sub("[A-Z]", lambda letter: letter[0].lower(), match[1]) if match else ""

    def mark(self) -> str:
        """Returns the last character that is no letter and no space."""
        text = bytes(token_id - 1 for token_id in self.document).decode("latin-1")
        return re.sub(r"[A-Za-z\x80-\xff ]", "", text)[-1:]

    def predicted(self) -> tuple[list[int], int]:
        """Returns the token that each match predicts, or -1, and the length of the first match that there is, or 0."""
        tokens = [self.text[place] if place >= 0 else -1 for place in self.found]
        return tokens, self.lengths[0] if tokens[0] >= 0 else self.lengths[1]

    def contexts(self) -> list[tuple[Any, ...]]:
        a, b, c, d, *_ = self.recent(6)
        both, length = self.predicted()
        predicted = both[0] if both[0] >= 0 else both[1]
        after = [self.followers.get(tuple(self.recent(n)), (0, 0)) for n in (1, 2, 3)]
        contexts: list[tuple[Any, ...]] = [tuple(self.recent(n)) for n in range(7)]
        contexts += [(b, c), (b, c, d), (a, c, d), (after[0], a), (after[1], a, b), (after[2], a, b)]
        contexts += [(predicted, min(length, 15)), (predicted, a), (*both, a, min(length, 30)), tuple(self.recent(8))]
        if self.has_words:
            now, *old = words = self.words()
            w, x, y, *_ = old
            short = next((word for word in old if 0 < len(word) <= 3), "")
            long = next((word for word in old if len(word) >= 5), "")
            after = [self.followers.get(tuple(words[1:n]), ("", "")) for n in (2, 3)]
            contexts += [(now, a), (now, w), (now, x), (now, w, x), (now, w[-3:]), (now, w[-3:], x[-3:]), (now, short)]
            contexts += [(now, predicted), (now, w, x, y), (now, x, y), (now, after[0]), (now, after[1], w)]
            contexts += [(now, self.first_word()), (now, self.mark(), w), (now, long), (now, long, w)]
            contexts += [(now, w, predicted)]
        return contexts

    # ---- Bits -----------------------------------------------------------------------------------

    def predict_bit(self, prefix: str) -> tuple[float, dict[str, Any]]:
        """Returns the probability of a 1 after the first bits of a token, and how it was computed."""
        contexts = self.contexts()
        inputs: list[float] = []
        states = []
        for number, context in enumerate(contexts):
            counter = self.counters.get((number, context, prefix))
            states.append((number, counter.state) if counter else None)
            if counter:
                prob = self._meaning(states[-1]).prob
                inputs += [stretch(prob), prob - 0.5, stretch(counter.share / 65536) / 2]
            else:
                inputs += [0, 0, 0]
        used = []
        for which, place in enumerate(self.found):
            word = f"{leaf_of(self.text[place], self.vocab_size):b}"[1:] if place >= 0 else ""
            if place >= 0 and len(word) > len(prefix) and word.startswith(prefix):
                length = self.lengths[which]
                length = length if length < 32 else min(32 + (length - 32) // 8, 63)
                bit = int(word[len(prefix)])
                used.append((which, length, bit))
                prob = self._trust(which, length).prob
                inputs += [x if bit else -x for x in (stretch(prob), prob - 0.5)]
            else:
                inputs += [0, 0]
        for rows in self.given:
            zero, one = self._sums(prefix, np.exp(rows[len(self.text)]))
            inputs += [clip(math.log(one / zero), 9), one / (zero + one) - 0.5]
        x = np.array([*inputs, 0.3], np.float32)
        if (
            not self.given
            and not used
            and not any(state for number, state in enumerate(states) if number not in (0, 13))
        ):
            counter = self.counters.get((0, (), prefix))
            prob = min(max(counter.share / 65536, 1e-6), 1 - 1e-6) if counter else 0.5
            return prob, {}
        order = max(n for n in range(7) if n == 0 or states[n])
        a, b, c = self.recent(3)
        node = int("1" + prefix, 2)
        short = node if node < 256 else hash_combine(node, 1) & 255
        length = 0 if not used else min(1 + used[0][1] // 4, 15)
        expected = leaf_of(self.text[self.found[used[0][0]]], self.vocab_size) & 255 if used else 0
        levels = [state and sum(self._meaning(state).prob >= p for p in (0, 0.05, 0.5, 0.95)) for state in states]
        certain = [state and abs(self._meaning(state).prob - 0.5) > 0.48 for state in states[2:7]]
        gates = [short, (length, order), a & 255, b & 255, c & 255, (min(len(prefix), 15), order), expected]
        gates += [tuple(levels[3:6]), tuple(levels[11:14]), tuple(certain)]
        values = np.array([clip(float(self.weights[n, gate] @ x), 12) for n, gate in enumerate(gates)])
        last_gates = [short, (1 + used[0][1] // 3 if used else 0, order), a & 255]
        last = [clip(float(self.last_weights[n, gate] @ values), 12) for n, gate in enumerate(last_gates)]
        total = sum(last) / 3
        rows = [short, *(value & (self.n_curve_rows - 1) for value in self._curve_rows(a, b, c, node)[:order])]
        point = (min(clip(total, 8), 8 - 1e-6) + 8) * 24 / 16
        below = int(point)
        shares = np.array([1 - (point - below), point - below])
        curves = [self.curves[n, row] for n, row in enumerate(rows)]
        corrections = [float(shares @ curve[below : below + 2].astype(float)) for curve in curves]
        prob = squash(total)
        how = {
            "states": states, "used": used, "x": x, "gates": gates, "values": values, "last_gates": last_gates,
            "last": last, "mixed": prob, "below": below, "shares": shares, "curves": curves, "corrections": corrections,
        }  # fmt: skip
        return min(max(prob + sum(corrections) / 8, 1e-6), 1 - 1e-6), how

    def _sums(self, prefix: str, probs: NDArray[np.float64]) -> list[float]:
        """Returns the sums of the probabilities of all tokens whose code words begin with `prefix` and 0, or 1."""
        return [
            sum(prob for word, prob in zip(self.code_words, probs, strict=True) if word.startswith(prefix + bit))
            for bit in "01"
        ]

    def _curve_rows(self, a: int, b: int, c: int, node: int) -> list[int]:
        return [hashed((a, node)), hash_combine(hashed((a, b)), node), hash_combine(hashed((a, b, c)), node)]

    def _meaning(self, key: Any) -> Average:
        return self.meanings.setdefault(key, Average(first_meaning(key[1]), 1000, np.float32))

    def _trust(self, which: int, length: int) -> Average:
        return self.trust.setdefault((which, length), Average(1 - 0.5 / (length + 2), 400))

    def learn_bit(self, bit: int, how: dict[str, Any], rate: float) -> None:
        """Learns everything but the counters from a bit."""
        if not how:
            return
        for n, (gate, value) in enumerate(zip(how["gates"], how["values"], strict=True)):
            self.weights[n, gate] += np.float32(rate * (bit - squash(value))) * how["x"]
        for n, (gate, value) in enumerate(zip(how["last_gates"], how["last"], strict=True)):
            self.last_weights[n, gate] += 0.0007 * (bit - squash(value)) * how["values"]
        for curve in how["curves"]:
            below = how["below"]
            now = float(how["shares"] @ curve[below : below + 2].astype(float))
            curve[below : below + 2] += 0.02 * how["shares"] * (bit - how["mixed"] - now)
        for which, length, predicted in how["used"]:
            self._trust(which, length).add(float(predicted == bit))
        for key in filter(None, how["states"]):
            self._meaning(key).add(bit)

    # ---- Tokens ---------------------------------------------------------------------------------

    def prob(self, token_id: int) -> float:
        """Returns the probability of a token after the text so far."""
        word = self.code_words[token_id]
        probs = [self.predict_bit(word[:place])[0] for place in range(len(word))]
        return math.prod(prob if bit == "1" else 1 - prob for prob, bit in zip(probs, word, strict=True))

    def learn(self, token_id: int) -> None:
        """Learns the next token."""
        word = self.code_words[token_id]
        rate = max(0.001, 0.02 * math.exp(-len(self.text) / 50_000))
        contexts = self.contexts()
        hows = [self.predict_bit(word[:place])[1] for place in range(len(word))]
        for bit, how in zip(word, hows, strict=True):
            self.learn_bit(int(bit), how, rate)
        for number, context in enumerate(contexts):
            for place, bit in enumerate(word):
                self.counters[number, context, word[:place]].add(int(bit))
        for n in (1, 2, 3):
            self._follow_up(tuple(self.recent(n)), token_id)
        if self.has_words and self.words()[0] and not letter(token_id):
            for n in (2, 3):
                self._follow_up(tuple(self.words()[1:n]), self.words()[0])
        self.text.append(token_id)
        self.document = [] if token_id == EOT else [*self.document, token_id]
        self._follow(token_id)

    def _follow_up(self, key: tuple[Any, ...], follower: Any) -> None:
        self.followers[key] = (self.followers.get(key, (type(follower)(), type(follower)()))[1], follower)

    def _follow(self, token_id: int) -> None:
        for which, least in enumerate(self.least):
            if self.found[which] >= 0 and self.document and self.text[self.found[which]] == token_id:
                self.found[which] += 1
                self.lengths[which] += 1
            else:
                self.found[which], self.lengths[which] = -1, 0
            if len(self.document) < least:
                continue
            key = tuple(self.document[-least:])
            place = self.places[which].get(key)
            if place is not None and self.found[which] < 0:
                self.found[which], self.lengths[which] = place, least
                while (
                    self.lengths[which] < min(64, len(self.document), place)
                    and self.document[-1 - self.lengths[which]] == self.text[place - 1 - self.lengths[which]]
                ):
                    self.lengths[which] += 1
            self.places[which][key] = len(self.text)
