"""Fits n-gram models in partitions: a text is counted and smoothed in many parts, by several processes or computers.

The second-to-last token of an n-gram determines its partition. All n-grams that continue the same context share this
token, and an n-gram shares it with its suffixes of two or more tokens. Counts, discounts, probabilities and back-off
weights can therefore be computed in each partition alone, and the result is the model that a fit in memory gives. Only
two kinds of numbers depend on all partitions: the counts of single tokens, and the numbers of n-grams with each count,
from which discounts are learned. (Brants et al. 2007 partition by the first two tokens, which is enough for stupid
back-off, but not for Kneser-Ney smoothing.)

The fit runs in stages, each of which consists of tasks that run in parallel (`lmzoo.system.executors`). A shard is a
part of the text:

    1. count tokens    shard -> (V,) counts, from which the partitions are planned                plan.py
    2. cut             shard -> for each partition, the n-grams of highest order                  counting.py
    3. sort            partition -> its n-grams of every order, sorted, with adjusted counts      counting.py
    4. estimate        partition -> log-probabilities and back-off weights                        estimating.py
       leave out       partition -> the same without rare n-grams, if they are left out           leaving_out.py
    5. join            all partitions -> one trie, in this process                                joining.py

Between stages 3 and 4, this process computes the sums over all partitions. Stage 2 moves each n-gram of the text once,
to its partition; no other large data is moved between tasks.

If the occurrences of a token are more than the n-grams of an average partition, the token is split. The n-grams of
which it is the second-to-last token then go to several partitions, which are chosen by the token before it. Each of
these partitions has a count of its own for a bigram that begins with the split token. These counts are summed between
stages 3 and 4, where the probabilities of these bigrams are estimated, too. The bigrams that begin with a split token
are called the head of the model.
"""
