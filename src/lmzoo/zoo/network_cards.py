"""The cards of the model families that are neural networks, in order of year."""

from __future__ import annotations

from lmzoo.zoo.species_card import Card


def _trained_today(name: str) -> str:
    """Returns a note for the card of a historical network: the budget quick trains it by methods of a later time."""
    return (
        "The architecture is that of its time, but the budget quick trains it with later inventions, which need fewer "
        "minutes: the optimizer Muon and a sampled softmax. For the training of its time, add "
        f"--set {name}.training.optimizer=adamw --set {name}.training.sampled_softmax=null."
    )


NETWORK_CARDS = (
    Card(
        name="rnn",
        factory="lmzoo.models.recurrent:rnn",
        title="Recurrent network",
        year=1990,
        people="Elman; Mikolov",
        idea="A hidden vector is updated at every token, and carries what the network has learned to remember.",
        sees="the whole document in principle",
        changed="No fixed window; twenty years later, the first network to outperform n-gram models consistently.",
        limits="Gradients vanish or explode over long distances, so it learns dependences of a few tokens only.",
        paper=(
            "J. L. Elman, Finding Structure in Time, Cognitive Science 14, 1990; T. Mikolov et al., Recurrent Neural "
            "Network Based Language Model, Interspeech 2010; with n-grams (RNNME), the setting `maxent_order`: "
            "T. Mikolov, A. Deoras, D. Povey, L. Burget, J. Černocký, Strategies for Training Large Scale Neural "
            "Network Language Models, ASRU 2011."
        ),
        cites=("elman1990", "mikolov2010", "mikolov2011"),
        tolerance=1e-4,
    ),
    Card(
        name="lstm",
        factory="lmzoo.models.recurrent:lstm",
        title="Long short-term memory",
        year=1997,
        people="Hochreiter, Schmidhuber; Gers; Sundermeyer",
        idea="A memory cell that is updated by addition, with gates that learn when to write, to keep and to read.",
        sees="the whole document in principle; about 200 tokens as measured in 2018",
        changed="Gradients survive hundreds of steps; the best language model until the transformer.",
        limits="One vector must hold the whole past, and training proceeds token by token.",
        paper=(
            "S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997; F. A. Gers, "
            "J. Schmidhuber, F. Cummins, Learning to Forget, Neural Computation 12, 2000; as a language model: "
            "M. Sundermeyer, R. Schlüter, H. Ney, Interspeech 2012; how far it sees: U. Khandelwal, H. He, P. Qi, "
            "D. Jurafsky, Sharp Nearby, Fuzzy Far Away, ACL 2018; the setting `mogrifier`: G. Melis, T. Kočiský, "
            "P. Blunsom, Mogrifier LSTM, ICLR 2020."
        ),
        cites=("hochreiter1997", "gers2000", "sundermeyer2012", "khandelwal2018", "melis2020"),
        beware=_trained_today("lstm"),
        tolerance=1e-4,
    ),
    Card(
        name="nplm",
        factory="lmzoo.models.nplm:nplm",
        title="Neural probabilistic language model",
        year=2003,
        people="Bengio, Ducharme, Vincent, Jauvin",
        idea="Each token is mapped to a vector, and a network reads the vectors of the last few tokens.",
        sees="n - 1 tokens (4 by default)",
        changed="Word embeddings: similar words have similar vectors, so the model generalises to unseen sequences.",
        limits="A fixed context window, and an expensive softmax over the whole vocabulary.",
        paper=(
            "Y. Bengio, R. Ducharme, P. Vincent, C. Jauvin, A Neural Probabilistic Language Model, "
            "Journal of Machine Learning Research 3, 2003."
        ),
        cites=("bengio2003",),
        tolerance=1e-4,
    ),
    Card(
        name="log-bilinear",
        factory="lmzoo.models.log_bilinear:log_bilinear",
        title="Log-bilinear model",
        year=2007,
        people="Mnih, Hinton; Morin, Bengio; Mikolov et al.",
        idea="The vector of the next token is a linear function of the vectors of the last few tokens.",
        sees="n - 1 tokens (4 by default)",
        changed="No hidden layer, and a tree of choices instead of a softmax: fast with large vocabularies.",
        limits="A fixed window, and no token can change what another one means.",
        paper=(
            "A. Mnih, G. Hinton, Three New Graphical Models for Statistical Language Modelling, ICML 2007; with a "
            "tree: A. Mnih, G. Hinton, A Scalable Hierarchical Distributed Language Model, NIPS 2008; as CBOW: "
            "T. Mikolov, K. Chen, G. Corrado, J. Dean, Efficient Estimation of Word Representations in Vector Space, "
            "2013."
        ),
        cites=("mnih2007", "mnih2008", "mikolov2013"),
        tolerance=1e-4,
    ),
    Card(
        name="gru",
        factory="lmzoo.models.recurrent:gru",
        title="Gated recurrent unit",
        year=2014,
        people="Cho et al.; Chung et al.",
        idea="A simpler LSTM, with two gates instead of three and no separate cell.",
        sees="the whole document in principle",
        changed="Showed that gates matter more than the details of the cell: about as good with fewer parameters.",
        limits="Like the LSTM: one vector for the whole past, and sequential training.",
        paper=(
            "K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine "
            "Translation, EMNLP 2014; beside the LSTM: J. Chung, C. Gulcehre, K. Cho, Y. Bengio, Empirical Evaluation "
            "of Gated Recurrent Neural Networks on Sequence Modeling, 2014."
        ),
        cites=("cho2014", "chung2014"),
        beware=_trained_today("gru"),
        tolerance=1e-4,
    ),
    Card(
        name="hybrid",
        factory="lmzoo.models.hybrid:hybrid",
        title="Hybrid of counts and a network",
        year=2016,
        people="Neubig, Dyer",
        idea="A gate, computed for every token, says how much an n-gram model and a recurrent network count.",
        sees="n - 1 tokens (4 by default) in its counts; the whole document in principle in its network",
        changed="The network learns what the counts do not know, and when to rely on them.",
        limits="For each token it is at most as good as the better of the two, and it costs as much as both.",
        paper=("G. Neubig, C. Dyer, Generalizing and Hybridizing Count-based and Neural Language Models, EMNLP 2016."),
        cites=("neubig2016",),
        tolerance=1e-4,
    ),
    Card(
        name="gated-conv",
        factory="lmzoo.models.gated_conv:gated_conv",
        title="Gated convolutional network",
        year=2017,
        people="Dauphin, Fan, Auli, Grangier",
        idea="Convolutions over the last few tokens, one upon the other, with gates that decide what passes.",
        sees="layers x (width - 1) + 1 tokens",
        changed="The first network without recurrence to compete with LSTMs on large corpora; it trains in parallel.",
        limits="A fixed window, and it cannot choose by content what to look at.",
        paper=(
            "Y. N. Dauphin, A. Fan, M. Auli, D. Grangier, Language Modeling with Gated Convolutional Networks, "
            "ICML 2017."
        ),
        cites=("dauphin2017",),
        tolerance=1e-4,
    ),
    Card(
        name="transformer-2017",
        factory="lmzoo.models.transformer_2017:transformer_2017",
        title="Transformer as published",
        year=2017,
        people="Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin",
        idea="Every token attends to all tokens before it and combines their vectors; sine waves encode positions.",
        sees="between half a window and a whole one (64 tokens by default)",
        changed="No recurrence: all positions are trained in parallel, and any two are connected in one step.",
        limits="Normalisation after each addition, so deep networks need a careful warm-up; nothing beyond the window.",
        paper=(
            "A. Vaswani et al., Attention Is All You Need, NeurIPS 2017; as a decoder alone: P. J. Liu et al., "
            "Generating Wikipedia by Summarizing Long Sequences, ICLR 2018."
        ),
        cites=("vaswani2017", "liu2018"),
        beware=_trained_today("transformer-2017"),
        tolerance=1e-4,
    ),
    Card(
        name="gpt2",
        factory="lmzoo.models.gpt2:gpt2",
        title="GPT-2",
        year=2019,
        people="Radford, Wu, Child, Luan, Amodei, Sutskever",
        idea="The transformer's decoder with normalisation before each layer, trained only to predict text.",
        sees="between half a window and a whole one (64 tokens by default; 1,024 as published)",
        changed="One model does many tasks without training for them, from a prompt: translation, summaries, answers.",
        limits="Learned positions end with the window, and it needs much training text.",
        paper="A. Radford et al., Language Models are Unsupervised Multitask Learners, OpenAI, 2019.",
        cites=("radford2019",),
        beware=_trained_today("gpt2"),
        tolerance=1e-4,
    ),
    Card(
        name="gpt-3.5",
        factory="lmzoo.models.chat:chat",
        title="GPT-3.5-style completion model",
        year=2022,
        people="Ouyang, Wu, Jiang, Almeida, Wainwright et al.",
        idea="A language model, the base, learns to predict the assistant's messages in conversations (fine-tuning).",
        sees="what its base sees",
        changed="The model follows instructions instead of merely continuing a text.",
        limits="It imitates good and bad demonstrations alike, and does not learn which replies are better.",
        paper="L. Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, NeurIPS 2022.",
        cites=("ouyang2022",),
        beware="The models of OpenAI have billions of weights; here, small networks are trained in the same way.",
        tolerance=1e-4,
        learns_from="conversations",
    ),
    Card(
        name="chat",
        factory="lmzoo.models.chat:chat",
        title="ChatGPT-style chat model",
        year=2022,
        people="Ouyang, Wu, Jiang, Almeida et al.; Christiano et al.; Schulman et al.; Rafailov et al.",
        idea="The fine-tuned model learns from rankings of its replies to write replies that people prefer.",
        sees="what its base sees",
        changed="People need not write good replies: it is enough that they say which of two replies is better.",
        limits="Replies that people prefer need not be true, and the model predicts text worse than its base.",
        paper=(
            "P. Christiano et al., Deep Reinforcement Learning from Human Preferences, NIPS 2017; J. Schulman et al., "
            "Proximal Policy Optimization, 2017; L. Ouyang et al., Training Language Models to Follow Instructions, "
            "NeurIPS 2022; L. Gao et al., Scaling Laws for Reward Model Overoptimization, 2022; R. Rafailov et al., "
            "Direct Preference Optimization, NeurIPS 2023."
        ),
        cites=("christiano2017", "schulman2017", "ouyang2022", "gao2022", "rafailov2023"),
        beware="Bits per byte of text do not measure what this model was trained for.",
        tolerance=1e-4,
        learns_from="conversations",
    ),
    Card(
        name="gpt-4",
        factory="lmzoo.models.chat:chat",
        title="GPT-4-style chat model",
        year=2023,
        people="OpenAI",
        idea="A better base is trained in the same stages, on the same kind of conversations and rankings.",
        sees="what its base sees",
        changed="Showed that the same stages make a better chat model from a better base.",
        limits="It learns little that its base does not know, because the later stages teach it how to reply.",
        paper="OpenAI, GPT-4 Technical Report, arXiv:2303.08774, 2023.",
        cites=("openai2023",),
        beware="Bits per byte of text do not measure what this model was trained for.",
        tolerance=1e-4,
        learns_from="conversations",
    ),
    Card(
        name="linear-recurrence",
        factory="lmzoo.models.linear_recurrence:linear_recurrence",
        title="Gated linear recurrence",
        year=2024,
        people="Dao, Gu; Feng et al.; Yang, Kautz, Hatamizadeh",
        idea="A recurrent memory that changes linearly, with gates that see only the input; it forgets and overwrites.",
        sees="the whole document in principle",
        changed="Recurrent networks that train in parallel like transformers, and read each token in constant time.",
        limits="A memory of fixed size: it cannot look up everything it has read, as attention can.",
        paper=(
            "S. Yang, J. Kautz, A. Hatamizadeh, Gated Delta Networks: Improving Mamba2 with Delta Rule, ICLR 2025; "
            "L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi, Were RNNs All We Needed?, 2024; T. Dao, "
            "A. Gu, Transformers are SSMs, ICML 2024."
        ),
        cites=("yang2025", "feng2024", "dao2024"),
        tolerance=1e-4,
    ),
    Card(
        name="transformer",
        factory="lmzoo.models.transformer:transformer",
        title="Modern transformer",
        year=2024,
        people="Zhang, Sennrich; Henry et al.; Su et al.; So et al.; Jordan et al.",
        idea="The transformer with later improvements: rotary positions, RMS norms, squared ReLU, Muon optimiser.",
        sees="layers x (window - 1) + 1 tokens",
        changed="The same loss for a fraction of the training, and a window that slides.",
        limits="The cost grows with the window, and it needs much training text.",
        paper=(
            "A. Vaswani et al., Attention Is All You Need, NeurIPS 2017; as a decoder alone: A. Radford et al., 2018; "
            "norms: B. Zhang and R. Sennrich, 2019; A. Henry et al., 2020; rotations: J. Su et al., 2021; squares and "
            "short convolutions: D. So et al., 2021; K. Jordan et al., Muon: An Optimizer for Hidden "
            "Layers in Neural Networks, 2024."
        ),
        cites=("vaswani2017", "radford2018", "zhang2019", "henry2020", "su2021", "so2021", "jordan2024"),
        tolerance=1e-4,
    ),
)
