"""Context mixing (Mahoney 2002): many contexts predict each bit of a token, and a learned network mixes them.

The smoothing of n-gram models and the escapes of PPM use contexts in a fixed order, the longest first. In context
mixing, all contexts predict at the same time, including contexts that are not simply the last n tokens: words, tokens
with gaps between them, or the longest repetition. Each context has a counter of the bits that followed it. If p_i is
the probability of a 1 according to the counter of context i, the probability of a 1 in the mixture is

    p = 1 / (1 + exp(-sum_i w_i ln(p_i / (1 - p_i))))

This is a logistic regression whose inputs are the log-odds of the predictions. Gradient steps after each token adapt
the weights w to how useful each context currently is. The network is gated: small contexts, such as the length of the
longest repetition, select which weights are used. The method is that of the compressors PAQ6 to paq8 and lpaq; none of
their code is used here.

A token is predicted bit by bit; see `lmzoo.models.bitwise`. The model learns only after a whole token, not after each
bit as PAQ does. Therefore the probabilities of all tokens at one position can be computed together, and sum to 1.

The size of the memory is fixed: the counters are in 2^table_bits buckets of 32 bytes, and everything else takes about a
tenth as much. Only the match model, which finds the longest repetition, also keeps the last 2^table_bits tokens. The
numbers in the code (step sizes, limits, lengths) and the kinds of contexts were chosen on parts of the training splits
of the King James Bible (the first million bytes, and every eighth chapter) and of Shakespeare's plays.

M. V. Mahoney, The PAQ1 Data Compression Program, 2002. M. V. Mahoney, Adaptive Weighing of Context Models for Lossless
Data Compression, Florida Institute of Technology, Technical Report CS-2005-16, 2005 (PAQ6: nonstationary states,
adaptive probability maps, mixing by gradient steps). B. Knoll, N. de Freitas, A Machine Learning Perspective on
Predictive Coding with PAQ8, DCC 2012 (the mixer as a gated network).

Other models of lmzoo can be further inputs of the mixer, as an LSTM is in the compressors lstm-compress and cmix. In
training, a model that learns from single tokens, such as PPM, learns together with the contexts. A network takes a
training step after every few chunks of the text, on these and on earlier chunks (`lmzoo.neural.online`). Any other
model is trained again each time the text has doubled. After training, each of these models predicts a document in the
same way as if it were used alone.

What context mixing cannot do: learn that two words are alike. It learns how much to trust each kind of context, but
what it has counted in one context says nothing about a similar one.

    contexts.py   hash values of contexts            mixer.py      the probability of a bit
    counters.py   the hash table of counters         learning.py   learning from the bits of a token
    matches.py    the longest repetition             reading.py    distributions over tokens, and reading
    arrays.py     the arrays of the mixer            inputs.py     other models: how they learn and read
    reader.py     tables, and documents              other_models.py   their probabilities of bits
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lmzoo.checks import check_flag, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.language_model import LanguageModel
from lmzoo.models.bitwise.model import BitwiseModel
from lmzoo.models.mixing import create_member
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.models.context_mixing.reader import MixingReader

__all__ = ["context_mixing"]


def context_mixing(
    vocab_size: int,
    *,
    table_bits: int = 22,
    words: bool = True,
    adaptive: bool = True,
    inputs: Sequence[Any] = (),
    device: Device = "cpu",
) -> BitwiseModel[Any]:
    """Creates a model that mixes the predictions of many contexts, bit by bit, and learns after every token.

    The counters are in 2^`table_bits` buckets of 32 bytes. `table_bits` is from 17 to 28; with 22, the buckets take
    134 MB, of which a short text uses only a part. With `words`, the model also uses contexts made of words, provided
    that the tokens are bytes, that is, that `vocab_size` is 257. If `adaptive` is True, the model also learns from each
    document that it predicts, token by token, and forgets the document at its end. If False, it learns only from the
    training text.

    `inputs` are other model families ("species") whose predictions are mixed with those of the contexts, each given by
    its name or as {"species": name, "settings": {...}}. Networks compute on `device`. Raises ConfigurationError if
    `inputs` is not a list, or if one of them learns from the text that it predicts although `adaptive` is False.
    """
    check_whole(17, 28, table_bits=table_bits)
    check_flag(words=words)
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise ConfigurationError(f'inputs must be a list of species, such as ["ppm", "lstm"], got {inputs!r}')

    new_models = partial(_new_models, inputs, vocab_size, device)
    learning = [spec for spec, model in zip(inputs, new_models(), strict=True) if model.adapts_on_test]
    if learning and not adaptive:
        raise ConfigurationError(
            f"with adaptive=false, no input may learn from the text that it predicts, but {learning[0]} does: give it "
            'the setting adaptive=false, as in {"species": "ppm", "settings": {"adaptive": false}}'
        )
    new_reader = partial(_new_reader, vocab_size, table_bits=table_bits, words=words, new_models=new_models)
    return BitwiseModel(vocab_size, new_reader, adaptive=adaptive)


def _new_models(inputs: Sequence[Any], vocab_size: int, device: Device) -> list[LanguageModel[Any]]:
    return [create_member(spec, vocab_size, device) for spec in inputs]


def _new_reader(vocab_size: int, **arguments: Any) -> MixingReader:
    from lmzoo.models.context_mixing.reader import MixingReader  # imports numba, which is slow

    return MixingReader(vocab_size, **arguments)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "context_mixing": {
        "tiny": {"table_bits": 17},
        "bytes": {"table_bits": 24, "inputs": [{"species": "ppm", "settings": {"order": 24}}]},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
