"""The cards of the species that come with lmzoo, era by era."""

from __future__ import annotations

from lmzoo.zoo.species_card import Card

CARDS = (
    Card(
        name="uniform",
        factory="lmzoo.models.floors:uniform",
        title="Uniform",
        year=1928,
        people="Hartley",
        idea="Every token is equally likely: log2(V) bits each.",
        sees="nothing",
        changed="Gave information a unit: the logarithm of the number of choices.",
        limits="Knows nothing. The floor that any learning must beat.",
        paper="R. V. L. Hartley, Transmission of Information, Bell System Technical Journal 7, 1928.",
        cites=("hartley1928",),
    ),
    Card(
        name="unigram",
        factory="lmzoo.models.floors:unigram",
        title="Unigram",
        year=1948,
        people="Shannon",
        idea="Tokens come with the frequencies that they have in the training text, whatever came before.",
        sees="nothing",
        changed="Shannon's first-order approximation to English: frequency alone already saves bits.",
        limits="No context at all.",
        paper="C. E. Shannon, A Mathematical Theory of Communication, Bell System Technical Journal 27, 1948.",
        cites=("shannon1948",),
    ),
    Card(
        name="markov",
        factory="lmzoo.models.markov:markov",
        title="Markov chain",
        year=1913,
        people="Markov",
        idea="The next token depends on the last one: a table of transition counts, drawn towards the unigram.",
        sees="1 token",
        changed="The first statistical model of text: Markov counted vowels and consonants in Eugene Onegin by hand.",
        limits="Everything before the last token is forgotten.",
        paper=(
            "A. A. Markov, An Example of Statistical Investigation of the Text Eugene Onegin Concerning the "
            "Connection of Samples in Chains, 1913 (English: Science in Context 19, 2006)."
        ),
        cites=("markov1913",),
    ),
    Card(
        name="hmm",
        factory="lmzoo.models.hmm:hmm",
        tolerance=1e-5,
        title="Hidden Markov model",
        year=1970,
        people="Baum, Petrie, Soules, Weiss; Baker; Jelinek",
        idea="A hidden state walks a Markov chain and emits tokens; Bayes' rule keeps a belief over the states.",
        sees="all of the document, squeezed into a belief over K states",
        changed="Learning with hidden variables (Baum-Welch, an EM algorithm): the heart of speech recognition.",
        limits="log2(K) bits of memory: it knows what kind of word comes next, hardly which one.",
        paper=(
            "L. E. Baum, T. Petrie, G. Soules, N. Weiss, A Maximization Technique Occurring in the Statistical "
            "Analysis of Probabilistic Functions of Markov Chains, Annals of Mathematical Statistics 41, 1970; for "
            "speech: J. K. Baker, The DRAGON System, IEEE Transactions on ASSP 23, 1975; F. Jelinek, Continuous Speech "
            "Recognition by Statistical Methods, Proceedings of the IEEE 64, 1976."
        ),
        cites=("baum1970", "baker1975", "jelinek1976"),
        beware=(
            "It is often drawn as a Markov chain on parts of speech: the last word has a state, and the state picks "
            "the next one. That is another model, which sees one token. Nobody knows the state here: what is carried "
            "on is a belief over all of them, and a word moves it without replacing it. So the prediction after a word "
            "depends on all words before it; only where each state emits one token of its own does the belief become "
            "certain, and the model a Markov chain."
        ),
    ),
    Card(
        name="trigram",
        factory="lmzoo.models.ngram:trigram",
        tolerance=1e-6,
        title="Trigram",
        year=1980,
        people="Jelinek, Mercer",
        idea="Counts of three tokens in a row, mixed with those of two and of one by weights learned on held-out text.",
        sees="2 tokens",
        changed="IBM's speech recognisers: data instead of linguists.",
        limits="Two tokens of context; mixes crudely compared with Kneser-Ney.",
        paper=(
            "F. Jelinek, R. L. Mercer, Interpolated Estimation of Markov Source Parameters from Sparse Data, "
            "Pattern Recognition in Practice, 1980."
        ),
        cites=("jelinek1980",),
    ),
    Card(
        name="mixture",
        factory="lmzoo.models.mixture:mixture",
        tolerance=1e-6,
        title="Mixture",
        year=1980,
        people="Jelinek, Mercer",
        idea="Several models vote on the next token; how much each one counts is learned on held-out text.",
        sees="what its members see",
        changed="Models need not compete: a mixture of two that err differently beats both.",
        limits="The weights are the same after every context, and it costs as much as all its members.",
        paper=(
            "F. Jelinek, R. L. Mercer, Interpolated Estimation of Markov Source Parameters from Sparse Data, "
            "Pattern Recognition in Practice, 1980."
        ),
        cites=("jelinek1980",),
    ),
    Card(
        name="cache",
        factory="lmzoo.models.cache:cache",
        tolerance=1e-6,
        title="Cache model",
        year=1990,
        people="Kuhn, De Mori; Clarkson, Robinson",
        idea="What a document has said it says again: an n-gram model mixed with the tokens and pairs read so far.",
        sees="all of the document so far, and adapts to it while it reads",
        changed="Models that learn from the text in front of them, not only from the training text.",
        limits="It repeats; and it is never ranked with models that do not learn from the test text.",
        paper=(
            "R. Kuhn, R. De Mori, A Cache-Based Natural Language Model for Speech Recognition, IEEE PAMI 12, 1990; "
            "P. R. Clarkson, A. J. Robinson, Language Model Adaptation Using Mixtures and an Exponentially Decaying "
            "Cache, ICASSP 1997."
        ),
        cites=("kuhn1990", "clarkson1997"),
    ),
    Card(
        name="class-ngram",
        factory="lmzoo.models.class_ngram:class_ngram",
        tolerance=1e-6,
        title="Class n-gram",
        year=1992,
        people="Brown, Della Pietra, deSouza, Lai, Mercer; Kneser, Ney",
        idea="Tokens that keep the same company form classes: predict the next class, then the token out of its class.",
        sees="n - 1 tokens (4 by default), as classes",
        changed="Similar words share what is learned, ten years before word embeddings; classes out of text alone.",
        limits="One class for every meaning of a word; of a phrase it remembers the classes only.",
        paper=(
            "P. F. Brown, V. J. Della Pietra, P. V. deSouza, J. C. Lai, R. L. Mercer, Class-Based n-gram Models of "
            "Natural Language, Computational Linguistics 18, 1992."
        ),
        cites=("brown1992",),
    ),
    Card(
        name="skip-ngram",
        factory="lmzoo.models.skip_ngram:skip_ngram",
        title="Skip n-gram",
        year=1994,
        people="Rosenfeld; Ney, Essen, Kneser",
        idea="Contexts with gaps: when three tokens were never seen together, two of them may have been.",
        sees="n - 1 tokens (3 by default)",
        changed="A context need not be contiguous: more of what was seen can speak.",
        limits="Twice the contexts with each token it sees further.",
        paper=(
            "H. Ney, U. Essen, R. Kneser, On Structuring Probabilistic Dependences in Stochastic Language Modelling, "
            "Computer Speech and Language 8, 1994; R. Rosenfeld, A Maximum Entropy Approach to Adaptive Statistical "
            "Language Modelling, Computer Speech and Language 10, 1996."
        ),
        cites=("ney1994", "rosenfeld1996"),
    ),
    Card(
        name="ngram",
        factory="lmzoo.models.ngram:ngram",
        tolerance=1e-6,
        title="n-gram, modified Kneser-Ney",
        year=1998,
        people="Kneser, Ney; Chen, Goodman",
        idea="Long contexts when they were seen, shorter ones otherwise, weighed by how many different words follow.",
        sees="n - 1 tokens (4 by default)",
        changed="The best language model until recurrent networks passed it about 2010, and on little text after that.",
        limits="Similar words share nothing; beyond a few tokens every context is new.",
        paper=(
            "S. F. Chen, J. Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, "
            "Harvard TR-10-98, 1998; R. Kneser, H. Ney, ICASSP 1995."
        ),
        cites=("chen1998", "kneser1995"),
    ),
    Card(
        name="class-hmm",
        factory="lmzoo.models.class_hmm:class_hmm",
        tolerance=1e-5,
        title="Large hidden Markov model",
        year=2020,
        people="Chiu, Rush",
        idea="Thousands of hidden states, of which each token, by its class, leaves only a block possible.",
        sees="all of the document, squeezed into a belief over the states of one class",
        changed="Showed that hidden Markov models had been too small: with enough states they outdo the n-gram.",
        limits="log2(K) bits of memory, and one class for each token, whatever it means.",
        paper="J. T. Chiu, A. M. Rush, Scaling Hidden Markov Language Models, EMNLP 2020.",
        cites=("chiu2020",),
    ),
    Card(
        name="low-rank-hmm",
        factory="lmzoo.models.low_rank_hmm:low_rank_hmm",
        tolerance=1e-4,
        title="Low-rank hidden Markov model",
        year=2021,
        people="Chiu, Deng, Rush",
        idea="A hidden Markov model whose probabilities come from learned vectors, trained by gradient descent.",
        sees="all of the document, squeezed into a belief over R choices",
        changed="Steps through R choices cost K R instead of K^2: structured models learn as networks do.",
        limits="Still a belief over a few hundred things, where an LSTM has a vector to write in.",
        paper=(
            "J. T. Chiu, Y. Deng, A. M. Rush, Low-Rank Constraints for Fast Inference in Structured Models, "
            "NeurIPS 2021."
        ),
        cites=("chiu2021",),
    ),
    Card(
        name="nplm",
        factory="lmzoo.models.nplm:nplm",
        tolerance=1e-4,
        title="Neural probabilistic language model",
        year=2003,
        people="Bengio, Ducharme, Vincent, Jauvin",
        idea="Each token becomes a vector; a network reads the last few, so that similar words share what is learned.",
        sees="n - 1 tokens",
        changed="Word embeddings: generalisation to word sequences never seen.",
        limits="A fixed window, and a softmax over all words.",
        paper=(
            "Y. Bengio, R. Ducharme, P. Vincent, C. Jauvin, A Neural Probabilistic Language Model, "
            "Journal of Machine Learning Research 3, 2003."
        ),
        cites=("bengio2003",),
    ),
    Card(
        name="rnn",
        factory="lmzoo.models.recurrent:rnn",
        tolerance=1e-4,
        title="Recurrent network",
        year=1990,
        people="Elman; Mikolov",
        idea="A hidden vector is updated at every token and carries whatever the network learns to keep.",
        sees="all of the document in principle",
        changed="No fixed window any more; twenty years later the first network to beat n-grams wherever it was tried.",
        limits="Gradients vanish or explode over distance, so it learns from a few tokens back.",
        paper=(
            "J. L. Elman, Finding Structure in Time, Cognitive Science 14, 1990; T. Mikolov et al., Recurrent Neural "
            "Network Based Language Model, Interspeech 2010."
        ),
        cites=("elman1990", "mikolov2010"),
    ),
    Card(
        name="lstm",
        factory="lmzoo.models.recurrent:lstm",
        tolerance=1e-4,
        title="Long short-term memory",
        year=1997,
        people="Hochreiter, Schmidhuber; Gers; Sundermeyer",
        idea="A cell that is added to instead of overwritten, behind gates that learn when to write, keep and read.",
        sees="all of the document in principle; about 200 tokens as measured in 2018",
        changed="Gradients survive hundreds of steps; the best language model until the transformer.",
        limits="One vector must hold all the past, and training walks token by token.",
        paper=(
            "S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997; F. A. Gers, "
            "J. Schmidhuber, F. Cummins, Learning to Forget, Neural Computation 12, 2000; as a language model: "
            "M. Sundermeyer, R. Schlüter, H. Ney, Interspeech 2012; how far it sees: U. Khandelwal, H. He, P. Qi, "
            "D. Jurafsky, Sharp Nearby, Fuzzy Far Away, ACL 2018."
        ),
        cites=("hochreiter1997", "gers2000", "sundermeyer2012", "khandelwal2018"),
    ),
    Card(
        name="gru",
        factory="lmzoo.models.recurrent:gru",
        tolerance=1e-4,
        title="Gated recurrent unit",
        year=2014,
        people="Cho et al.; Chung et al.",
        idea="The LSTM with two gates instead of three and no separate cell.",
        sees="all of the document",
        changed="Showed that it is the gates that matter, not the details: about as good with fewer parameters.",
        limits="As the LSTM's.",
        paper=(
            "K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine "
            "Translation, EMNLP 2014; beside the LSTM: J. Chung, C. Gulcehre, K. Cho, Y. Bengio, Empirical Evaluation "
            "of Gated Recurrent Neural Networks on Sequence Modeling, 2014."
        ),
        cites=("cho2014", "chung2014"),
    ),
    Card(
        name="transformer-2017",
        factory="lmzoo.models.transformer_2017:transformer_2017",
        tolerance=1e-4,
        title="Transformer as published",
        year=2017,
        people="Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin",
        idea="Every token looks directly at every token before it and takes what matters; positions are sine waves.",
        sees="half a window to a whole one (64 tokens by default)",
        changed="No recurrence: training in parallel over all positions, and a path of length one between any two.",
        limits="Norms behind each sum: deep stacks learn only after a careful warm-up. Nothing beyond the window.",
        paper=(
            "A. Vaswani et al., Attention Is All You Need, NeurIPS 2017; as a decoder alone: P. J. Liu et al., "
            "Generating Wikipedia by Summarizing Long Sequences, ICLR 2018."
        ),
        cites=("vaswani2017", "liu2018"),
    ),
    Card(
        name="gpt2",
        factory="lmzoo.models.gpt2:gpt2",
        tolerance=1e-4,
        title="GPT-2",
        year=2019,
        people="Radford, Wu, Child, Luan, Amodei, Sutskever",
        idea="The transformer's decoder with norms before its layers, trained to predict text and nothing else.",
        sees="half a window to a whole one (64 tokens by default; 1,024 as published)",
        changed="One model of text does many tasks unasked: translation, summaries, answers, from a prompt alone.",
        limits="Learned positions end with the window; hungry for text.",
        paper="A. Radford et al., Language Models are Unsupervised Multitask Learners, OpenAI, 2019.",
        cites=("radford2019",),
    ),
    Card(
        name="transformer",
        factory="lmzoo.models.transformer:transformer",
        tolerance=1e-4,
        title="Transformer, as small ones are made today",
        year=2024,
        people="Zhang, Sennrich; Henry et al.; Su et al.; So et al.; Jordan et al.",
        idea="The transformer with what seven years of small changes gave it: rotated positions, norms, squares, Muon.",
        sees="layers x (window - 1) + 1 tokens",
        changed="The same loss from a fraction of the training, and a window that slides.",
        limits="Cost grows with the window; hungry for text.",
        paper=(
            "A. Vaswani et al., Attention Is All You Need, NeurIPS 2017; as a decoder alone: A. Radford et al., 2018; "
            "norms: B. Zhang and R. Sennrich, 2019; A. Henry et al., 2020; rotations: J. Su et al., 2021; squares: "
            "D. So et al., 2021; K. Jordan et al., Muon: An Optimizer for Hidden Layers in Neural Networks, 2024."
        ),
        cites=("vaswani2017", "radford2018", "zhang2019", "henry2020", "su2021", "so2021", "jordan2024"),
    ),
    Card(
        name="infinigram",
        factory="lmzoo.models.infinigram:infinigram",
        title="Unbounded n-gram",
        year=2024,
        people="Liu, Min, Zettlemoyer, Choi, Hajishirzi",
        idea="A sorted index of the training text answers for contexts of any length: n-grams without an n.",
        sees="as many tokens as were ever seen together in training, up to 1,000",
        changed="n-grams over trillions of tokens, and a look into what large models have read.",
        limits="Where the text is new, it is an n-gram of order two or three like the others.",
        paper=(
            "J. Liu, S. Min, L. Zettlemoyer, Y. Choi, H. Hajishirzi, Infini-gram: Scaling Unbounded n-gram Language "
            "Models to a Trillion Tokens, COLM 2024."
        ),
        cites=("liu2024",),
    ),
)
