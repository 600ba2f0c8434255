"""Short texts for the tests."""

from __future__ import annotations

import numpy as np


def small_texts(n_documents: int = 40, seed: int = 0) -> list[str]:
    """Documents of sentences that agree in number, so that context helps."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(n_documents):
        sentences = []
        for _ in range(int(rng.integers(3, 8))):
            noun = rng.choice(["cat", "dog", "fox", "king", "ship"])
            if rng.random() < 0.5:
                sentences.append(f"The {noun} that I saw was near the {rng.choice(['river', 'house'])}.")
            else:
                sentences.append(f"The {noun}s that I saw were near the {rng.choice(['rivers', 'houses'])}.")
        texts.append("\n".join(sentences))
    return texts
