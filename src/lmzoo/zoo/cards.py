"""The cards of the model families that are part of lmzoo, in order of year.

Those of neural networks are in `lmzoo.zoo.network_cards`.
"""

from __future__ import annotations

from lmzoo.zoo.network_cards import NETWORK_CARDS
from lmzoo.zoo.species_card import Card

_COUNTING_CARDS = (
    Card(
        name="markov",
        factory="lmzoo.models.markov:markov",
        title="Markov chain",
        year=1913,
        people="Markov",
        idea="The next token depends on the last one: a table of transition counts, smoothed with unigram frequencies.",
        sees="1 token",
        changed="The first statistical model of text: Markov counted vowels and consonants in Eugene Onegin by hand.",
        limits="It forgets everything before the last token.",
        paper=(
            "A. A. Markov, An Example of Statistical Investigation of the Text Eugene Onegin Concerning the "
            "Connection of Samples in Chains, 1913 (English: Science in Context 19, 2006)."
        ),
        cites=("markov1913",),
    ),
    Card(
        name="uniform",
        factory="lmzoo.models.baselines:uniform",
        title="Uniform",
        year=1928,
        people="Hartley",
        idea="Every token has the same probability, 1/V for a vocabulary of V tokens, and costs log2(V) bits.",
        sees="nothing",
        changed="Gave information a unit: the logarithm of the number of choices.",
        limits="It knows nothing about text. It is the baseline for every model that learns.",
        paper="R. V. L. Hartley, Transmission of Information, Bell System Technical Journal 7, 1928.",
        cites=("hartley1928",),
    ),
    Card(
        name="unigram",
        factory="lmzoo.models.baselines:unigram",
        title="Unigram",
        year=1948,
        people="Shannon",
        idea="Tokens have the frequencies of the training text, whatever the context.",
        sees="nothing",
        changed="Shannon's first-order approximation to English: frequencies alone already save bits.",
        limits="It ignores the context.",
        paper="C. E. Shannon, A Mathematical Theory of Communication, Bell System Technical Journal 27, 1948.",
        cites=("shannon1948",),
    ),
    Card(
        name="hmm",
        factory="lmzoo.models.hmm:hmm",
        title="Hidden Markov model",
        year=1970,
        people="Baum, Petrie, Soules, Weiss; Baker; Jelinek",
        idea="A Markov chain over hidden states, which emit the tokens; Bayes' rule infers the state from the tokens.",
        sees="the whole document, summarised as a distribution over K states",
        changed="Learning with hidden variables (Baum-Welch, an EM algorithm), long the basis of speech recognition.",
        limits="At most log2(K) bits of memory: it knows which class of words comes next, but hardly which word.",
        paper=(
            "L. E. Baum, T. Petrie, G. Soules, N. Weiss, A Maximization Technique Occurring in the Statistical "
            "Analysis of Probabilistic Functions of Markov Chains, Annals of Mathematical Statistics 41, 1970; for "
            "speech: J. K. Baker, The DRAGON System, IEEE Transactions on ASSP 23, 1975; F. Jelinek, Continuous Speech "
            "Recognition by Statistical Methods, Proceedings of the IEEE 64, 1976."
        ),
        cites=("baum1970", "baker1975", "jelinek1976"),
        beware=(
            "A hidden Markov model is often described as a Markov chain on parts of speech, in which the last word "
            "determines a state, and the state determines the next word. That is a different model, whose context is "
            "one token. In a hidden Markov model the state is never known: the model keeps a distribution over all "
            "states, and each word updates this distribution. So the prediction depends on all previous words. Only "
            "if each state emits a token of its own is the state known, and the model is a Markov chain."
        ),
        tolerance=1e-5,
    ),
    Card(
        name="trigram",
        factory="lmzoo.models.ngram:trigram",
        title="Trigram",
        year=1980,
        people="Jelinek, Mercer",
        idea="Counts of three successive tokens, interpolated with shorter counts by weights learned on held-out text.",
        sees="2 tokens",
        changed="IBM's speech recognition learned from data instead of rules written by linguists.",
        limits="Two tokens of context, and a simpler interpolation than Kneser-Ney smoothing.",
        paper=(
            "F. Jelinek, R. L. Mercer, Interpolated Estimation of Markov Source Parameters from Sparse Data, "
            "Pattern Recognition in Practice, 1980."
        ),
        cites=("jelinek1980",),
        tolerance=1e-6,
    ),
    Card(
        name="mixture",
        factory="lmzoo.models.mixture:mixture",
        title="Mixture",
        year=1980,
        people="Jelinek, Mercer",
        idea="A weighted average of the predictions of several models, with weights learned on held-out text.",
        sees="what its members see",
        changed="Models can be combined: a mixture of two models that make different errors is better than either.",
        limits="The weights are the same in every context, and computing it costs as much as all its members.",
        paper=(
            "F. Jelinek, R. L. Mercer, Interpolated Estimation of Markov Source Parameters from Sparse Data, "
            "Pattern Recognition in Practice, 1980."
        ),
        cites=("jelinek1980",),
        tolerance=1e-6,
    ),
    Card(
        name="ppm",
        factory="lmzoo.models.ppm:ppm",
        title="Prediction by partial matching",
        year=1984,
        people="Cleary, Witten; Moffat; Howard; Steinruecken, Ghahramani, MacKay",
        idea="Counts of all contexts seen so far, the longest first, which are updated after every token.",
        sees="16 tokens, and adapts to the whole document so far",
        changed="Compression became prediction: a model predicts the next token, and a coder uses its probabilities.",
        limits="Similar contexts share no statistics. It learns from the test text, so it is ranked separately.",
        paper=(
            "J. G. Cleary, I. H. Witten, Data Compression Using Adaptive Coding and Partial String Matching, IEEE "
            "Transactions on Communications 32, 1984; A. Moffat, Implementing the PPM Data Compression Scheme, IEEE "
            "Transactions on Communications 38, 1990; P. G. Howard, The Design and Analysis of Efficient Lossless Data "
            "Compression Systems, Brown University, 1993; C. Steinruecken, Z. Ghahramani, D. MacKay, Improving PPM "
            "with Dynamic Parameter Updates, DCC 2015."
        ),
        cites=("cleary1984", "moffat1990", "howard1993", "steinruecken2015"),
    ),
    Card(
        name="cache",
        factory="lmzoo.models.cache:cache",
        title="Cache model",
        year=1990,
        people="Kuhn, De Mori; Clarkson, Robinson",
        idea="Words of a document tend to be repeated: an n-gram model, mixed with the tokens and pairs read so far.",
        sees="the whole document so far, and adapts to it while reading",
        changed="Models began to learn from the current document, and not only from the training text.",
        limits="It tends to repeat itself. It learns from the test text, so it is not ranked with models that do not.",
        paper=(
            "R. Kuhn, R. De Mori, A Cache-Based Natural Language Model for Speech Recognition, IEEE PAMI 12, 1990; "
            "P. R. Clarkson, A. J. Robinson, Language Model Adaptation Using Mixtures and an Exponentially Decaying "
            "Cache, ICASSP 1997."
        ),
        cites=("kuhn1990", "clarkson1997"),
        tolerance=1e-6,
    ),
    Card(
        name="class-ngram",
        factory="lmzoo.models.class_ngram:class_ngram",
        title="Class n-gram",
        year=1992,
        people="Brown, Della Pietra, deSouza, Lai, Mercer; Kneser, Ney",
        idea="Tokens that occur in similar contexts form classes; it predicts the next class, then a token of it.",
        sees="n - 1 tokens (4 by default), as classes",
        changed="Similar words share statistics, ten years before word embeddings; classes are learned from text.",
        limits="A word has one class, whatever its meaning in context, and contexts are sequences of classes only.",
        paper=(
            "P. F. Brown, V. J. Della Pietra, P. V. deSouza, J. C. Lai, R. L. Mercer, Class-Based n-gram Models of "
            "Natural Language, Computational Linguistics 18, 1992."
        ),
        cites=("brown1992",),
        tolerance=1e-6,
    ),
    Card(
        name="skip-ngram",
        factory="lmzoo.models.skip_ngram:skip_ngram",
        title="Skip n-gram",
        year=1994,
        people="Rosenfeld; Ney, Essen, Kneser",
        idea="Contexts with gaps: three tokens may never have occurred together in training, when two of them have.",
        sees="n - 1 tokens (3 by default)",
        changed="A context need not be contiguous, so more of the training text can be used.",
        limits="The number of contexts doubles with each additional token.",
        paper=(
            "H. Ney, U. Essen, R. Kneser, On Structuring Probabilistic Dependences in Stochastic Language Modelling, "
            "Computer Speech and Language 8, 1994; R. Rosenfeld, A Maximum Entropy Approach to Adaptive Statistical "
            "Language Modelling, Computer Speech and Language 10, 1996."
        ),
        cites=("ney1994", "rosenfeld1996"),
    ),
    Card(
        name="context-tree-weighting",
        factory="lmzoo.models.context_tree_weighting:context_tree_weighting",
        title="Context-tree weighting",
        year=1995,
        people="Willems, Shtarkov, Tjalkens",
        idea="The exact average over all trees of contexts that may have generated the bits of the tokens.",
        sees="6 tokens, and adapts to the whole document so far",
        changed="A guarantee: on no text is it much worse than the best tree of contexts, chosen in hindsight.",
        limits="The average is cautious: contexts that were always followed by one token are trusted too little.",
        paper=(
            "F. M. J. Willems, Y. M. Shtarkov, T. J. Tjalkens, The Context-Tree Weighting Method: Basic Properties, "
            "IEEE Transactions on Information Theory 41, 1995; for text: the same, Reflections on the paper, IEEE "
            "Information Theory Society Newsletter 47, 1997; the estimator: R. E. Krichevsky, V. K. Trofimov, 1981."
        ),
        cites=("willems1995", "willems1997", "krichevsky1981"),
    ),
    Card(
        name="maxent",
        factory="lmzoo.models.maxent:maxent",
        title="Maximum-entropy model",
        year=1996,
        people="Rosenfeld; Berger, Della Pietra, Della Pietra",
        idea="Each n-gram of the training text has a weight, and a softmax of sums of weights predicts the next token.",
        sees="n - 1 tokens (4 by default); with triggers also which tokens the document has had so far",
        changed="One model for all kinds of evidence, fitted by gradients: the output layer of every later network.",
        limits="Features are chosen by hand, here n-grams and pairs of words, and similar words share no statistics.",
        paper=(
            "R. Rosenfeld, A Maximum Entropy Approach to Adaptive Statistical Language Modelling, Computer Speech and "
            "Language 10, 1996; A. L. Berger, S. A. Della Pietra, V. J. Della Pietra, A Maximum Entropy Approach to "
            "Natural Language Processing, Computational Linguistics 22, 1996; R. Lau, R. Rosenfeld, S. Roukos, "
            "Trigger-Based Language Models: A Maximum Entropy Approach, ICASSP 1993; J. Wu, S. Khudanpur, Efficient "
            "Training Methods for Maximum Entropy Language Modeling, ICSLP 2000; S. F. Chen, R. Rosenfeld, A Survey of "
            "Smoothing Techniques for ME Models, IEEE Transactions on Speech and Audio Processing 8, 2000; J. Goodman, "
            "Exponential Priors for Maximum Entropy Models, HLT-NAACL 2004."
        ),
        cites=("rosenfeld1996", "berger1996", "lau1993", "wu2000", "chen2000", "goodman2004"),
        tolerance=1e-6,
    ),
    Card(
        name="context-mixing",
        factory="lmzoo.models.context_mixing:context_mixing",
        title="Context mixing",
        year=2002,
        people="Mahoney; Ratushnyak; Knoll",
        idea="Many contexts predict each bit of a token, and a small network, which learns as it reads, weighs them.",
        sees="8 tokens, the longest repetition, words if the tokens are bytes; it adapts to the whole document so far",
        changed="Predictions of any kind can be combined, bit by bit; such compressors have held the records since.",
        limits="Similar contexts share no statistics. It learns from the test text, so it is ranked separately.",
        paper=(
            "M. V. Mahoney, The PAQ1 Data Compression Program, Florida Institute of Technology, 2002; the same, "
            "Adaptive Weighing of Context Models for Lossless Data Compression, Technical Report CS-2005-16, 2005; "
            "the programs lpaq (2007) and paq8, by Mahoney, Ratushnyak and others; B. Knoll, N. de Freitas, A Machine "
            "Learning Perspective on Predictive Coding with PAQ8, DCC 2012."
        ),
        cites=("mahoney2002", "mahoney2005", "knoll2012"),
    ),
    Card(
        name="ngram",
        factory="lmzoo.models.ngram:ngram",
        title="n-gram, modified Kneser-Ney",
        year=1998,
        people="Kneser, Ney; Chen, Goodman",
        idea="Counts of long contexts, mixed with shorter contexts, which count how many different words they precede.",
        sees="n - 1 tokens (4 by default)",
        changed="The best language model until recurrent networks about 2010, and longer than that on small corpora.",
        limits="Similar words share no statistics, and most contexts of more than a few tokens are new.",
        paper=(
            "S. F. Chen, J. Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, "
            "Harvard TR-10-98, 1998; R. Kneser, H. Ney, ICASSP 1995."
        ),
        cites=("chen1998", "kneser1995"),
        tolerance=1e-6,
    ),
    Card(
        name="sequence-memoizer",
        factory="lmzoo.models.sequence_memoizer:sequence_memoizer",
        title="Sequence memoizer",
        year=2009,
        people="Wood, Archambeau, Gasthaus, James, Teh",
        idea="A Bayesian model of all contexts: each distribution is drawn around that of a shorter context.",
        sees="the longest context that occurred in training, up to 1,000 tokens",
        changed="Explained Kneser-Ney smoothing as approximate inference, and extended it to contexts without a limit.",
        limits="Similar contexts share no statistics, and long contexts seldom occur again in new text.",
        paper=(
            "F. Wood, C. Archambeau, J. Gasthaus, L. James, Y. W. Teh, A Stochastic Memoizer for Sequence Data, ICML "
            "2009; J. Gasthaus, Y. W. Teh, Improvements to the Sequence Memoizer, NIPS 2010; S. Huang, S. Renals, "
            "Power Law Discounting for N-gram Language Models, ICASSP 2010; Y. W. Teh, A Hierarchical Bayesian "
            "Language Model Based on Pitman-Yor Processes, ACL 2006."
        ),
        cites=("wood2009", "gasthaus2010", "huang2010", "teh2006"),
    ),
    Card(
        name="class-hmm",
        factory="lmzoo.models.class_hmm:class_hmm",
        title="Large hidden Markov model",
        year=2020,
        people="Chiu, Rush",
        idea="Thousands of hidden states; each token can be emitted only by the block of states of its class.",
        sees="the whole document, summarised as a distribution over the states of one class",
        changed="Showed that hidden Markov models had been too small: with enough states they are better than n-grams.",
        limits="At most log2(K) bits of memory for K states, and one class per token, whatever its meaning in context.",
        paper="J. T. Chiu, A. M. Rush, Scaling Hidden Markov Language Models, EMNLP 2020.",
        cites=("chiu2020",),
        tolerance=1e-5,
    ),
    Card(
        name="low-rank-hmm",
        factory="lmzoo.models.low_rank_hmm:low_rank_hmm",
        title="Low-rank hidden Markov model",
        year=2021,
        people="Chiu, Deng, Rush",
        idea="A hidden Markov model with probabilities computed from learned vectors, trained by gradient descent.",
        sees="the whole document, summarised as a distribution over R components",
        changed="A transition of rank R costs K R operations instead of K^2; structured models train like networks.",
        limits="Its memory is a distribution over R components, and narrower than the vector of an LSTM.",
        paper=(
            "J. T. Chiu, Y. Deng, A. M. Rush, Low-Rank Constraints for Fast Inference in Structured Models, "
            "NeurIPS 2021."
        ),
        cites=("chiu2021",),
        tolerance=1e-4,
    ),
    Card(
        name="infinigram",
        factory="lmzoo.models.infinigram:infinigram",
        title="Unbounded n-gram",
        year=2024,
        people="Liu, Min, Zettlemoyer, Choi, Hajishirzi",
        idea="A sorted index of the training text gives counts for contexts of any length: n-grams without a fixed n.",
        sees="the longest context that occurred in training, up to 1,000 tokens",
        changed="n-grams over trillions of tokens, and a way to search the training text of large models.",
        limits="In new text only short contexts match, so it predicts like an n-gram model of order two or three.",
        paper=(
            "J. Liu, S. Min, L. Zettlemoyer, Y. Choi, H. Hajishirzi, Infini-gram: Scaling Unbounded n-gram Language "
            "Models to a Trillion Tokens, COLM 2024."
        ),
        cites=("liu2024",),
    ),
)

CARDS = tuple(sorted((*_COUNTING_CARDS, *NETWORK_CARDS), key=lambda card: card.year))
