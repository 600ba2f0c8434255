"""ARPA files: n-gram models as text, the format that KenLM, SRILM, IRSTLM and the CMU toolkit share.

    \\data\\
    ngram 1=4
    ngram 2=2

    \\1-grams:
    -99      <s>        -0.30103
    -0.60206 </s>
    -0.30103 a          -0.1760913
    -0.60206 <unk>

    \\2-grams:
    -0.1249387 <s> a
    -0.30103 a </s>

    \\end\\

A line has the log10 probability of the last word of an n-gram after its other words, the words, and the log10 back-off
weight of the n-gram as a context (0 if left out). The format was designed by Doug Paul; it is described in SRILM's
ngram-format(5), http://www.speech.sri.com/projects/srilm/manpages/ngram-format.5.html. Where the description is open,
lmzoo follows KenLM's `lm/read_arpa.hh` (Heafield 2011), so that every score equals KenLM's:

- Words are separated by spaces, tabs, carriage returns and NUL, and by nothing else (see `lmzoo.tokenizers.words`).
- Numbers are decimal, such as -0.5, -.5 or -5e-1. Of other notations, only -inf is allowed.
- `<s>` is only a context; the probability on its line has no meaning. lmzoo's end-of-text token (EOT, id 0) is `<s>` as
  the first word of an n-gram and `</s>` as its last word. N-grams across a sentence end (`</s> a`, `a <s>`) are never
  used and are dropped.
- `<unk>`, also written `<UNK>`, stands for all unknown words. A file without it has a closed vocabulary.
- Pruned files may lack the context or the suffix of an n-gram. These n-grams are added with the probability that
  backing off gives and a back-off weight of 1, which changes no distribution.
- A probability of zero is -99 in SRILM, -99.999 in the CMU toolkit, and may be -inf elsewhere. -inf is read as -99, so
  that no word has probability 0. All other numbers are kept.
- Probabilities are not changed otherwise. They sum to 1 as precisely as the digits of the file allow.

    reading.py   from a file to a model         lines.py     fast parsing of lines
    files.py     the file, line by line         linking.py   from lists of n-grams to the trie
    writing.py   from a model to a file
"""

from __future__ import annotations

from lmzoo.models.ngram.arpa.reading import read_arpa
from lmzoo.models.ngram.arpa.writing import write_arpa

__all__ = ["read_arpa", "write_arpa"]
