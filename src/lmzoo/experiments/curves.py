"""Learning curves: models trained on growing shares of one train split, and evaluated on the same test split.

    run/run.json        the request
    run/tokenizer.json  the tokenizer of all shares
    run/share-64/       a run of `compare` on 1/64 of the train split, and so on
    run/share-1/        a run of `compare` on all of it
    run/curves.jsonl    the records of all shares

Each share contains the documents of the smaller ones. The tokenizer is trained once, on the whole train split, because
losses are comparable only under one vocabulary. The validation set, on which some models tune, is the same for all
shares. Networks train for the same number of epochs on each share: their number of training tokens is proportional to
the share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from lmzoo import zoo
from lmzoo.corpora import Corpus
from lmzoo.corpora.encoded import tokenizer_for
from lmzoo.corpora.load import as_corpus
from lmzoo.corpora.splitting import documents_at
from lmzoo.errors import CorpusError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_lines, write_records
from lmzoo.experiments.budgets import merged, scaled
from lmzoo.experiments.compare import run_comparison
from lmzoo.experiments.learning_curves import RECORDS, SHARE_MARK, share_folder, share_name
from lmzoo.experiments.placed import placed
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.system.jobs import Outcome, named
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import Tokenizer

SHARES: Final = 64
"""Default denominator of the smallest share."""


def curves(
    folder: str | Path | None,
    plan: RunPlan,
    *,
    shares: int = SHARES,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[float, Outcome[EvalRecord]], None] | None = None,
) -> RunResult[EvalRecord]:
    """Trains and evaluates models on the shares 1/`shares`, ..., 1/2 and 1 of the train split, for learning curves.

    `folder` receives all results. `shares` is a power of two. `plan` says which models are trained, and on which
    corpus. Each value in `plan.sweeps` has a curve of its own. Budget and settings of the plan apply to the whole train
    split; on a share, networks train on proportionally fewer tokens. Each share is a run of `compare`. `on_outcome` is
    called with the share and the outcome of each model. Results of an earlier call are reused. From a script, call this
    function under `if __name__ == "__main__":`.

    Returns the outcomes of all shares, the smallest share first. Raises UsageError for a wrong argument.
    """
    plan = plan.checked()
    if any(setting.startswith("training.tokens") for sweep in plan.sweeps.values() for setting in sweep):
        raise UsageError(
            "training.tokens cannot be swept, because it is proportional to the share: sweep a size, such as "
            "lstm.d_hidden"
        )
    settings = {name: _with_training_tokens(name, plan) for name in {*plan.species, *plan.sweeps}}
    check_shares(shares)
    corpus = as_corpus(plan.corpus)
    parts = nested_shares(corpus, shares, seed=plan.seed)
    folder = Path(folder or plan.default_folder("curves"))
    with placed(plan) as (plan, _), open_run(folder, {"kind": "learning curves"} | plan.request(corpus)):
        tokenizer = _tokenizer(folder / "tokenizer.json", corpus, plan.tokenizer, named("tokenizer", on_progress))
        points = {(record.name, record.train_share): record for record in read_lines(folder / RECORDS, EvalRecord)}
        outcomes: list[Outcome[EvalRecord]] = []
        for share, part in reversed(parts.items()):
            result = run_comparison(
                share_folder(folder, share),
                _plan_of_share(plan, share, part, corpus, tokenizer, settings),
                on_progress=_prefixed(share, on_progress),
                on_outcome=(lambda outcome, share=share: on_outcome(share, outcome)) if on_outcome else None,
            )
            outcomes += result.outcomes
            points |= {(record.name, share): record for record in result.records}
            for failed in result.failures:  # an earlier record has other settings, and belongs to another curve
                points.pop((failed.name, share), None)
            order = list(dict.fromkeys([*(outcome.name for outcome in result.outcomes), *(name for name, _ in points)]))
            ordered = sorted(points, key=lambda point: (point[1] or 0, order.index(point[0])))
            write_records(folder / RECORDS, [points[point] for point in ordered])
    return RunResult(folder, outcomes)


def check_shares(shares: int) -> None:
    """Raises UsageError unless `shares` is a power of two of at least 2."""
    if isinstance(shares, bool) or not isinstance(shares, int) or shares < 2 or shares & (shares - 1):
        raise UsageError(
            f"shares must be a power of two of at least 2, such as 64 for the shares 1/64, 1/32, ..., 1; got {shares!r}"
        )


def nested_shares(corpus: Corpus, shares: int = SHARES, *, seed: int = 0) -> dict[float, Corpus]:
    """Returns versions of a corpus with 1, 1/2, 1/4, ..., 1/`shares` of its train split, as a dictionary by share.

    Shares are measured in bytes, to the nearest document. `seed` determines which documents belong to a share. The
    documents of a share keep their order, and each share contains all smaller shares. A share that would have as many
    documents as the next larger share is omitted, together with all smaller shares. Raises CorpusError if the train
    split has only one document.
    """
    check_shares(shares)
    order = np.random.default_rng(seed).permutation(len(corpus.train))
    sizes = np.array([document.n_bytes for document in corpus.train])[order].cumsum()
    parts = {1.0: corpus}
    n_before = len(order)
    for n_parts in (2**power for power in range(1, shares.bit_length())):
        n_documents = 1 + int(np.abs(sizes - sizes[-1] / n_parts).argmin())
        if n_documents == n_before:
            break
        n_before = n_documents
        parts[1 / n_parts] = replace(
            corpus,
            train=documents_at(corpus.train, np.sort(order[:n_documents])),
            protocol=f"{corpus.protocol}{SHARE_MARK}1/{n_parts}: {n_documents} documents, sampled with seed {seed}",
        )
    if len(parts) == 1:
        raise CorpusError(
            f"the train split of '{corpus.name}' is one document: a learning curve needs several documents"
        )
    return parts


def _plan_of_share(
    plan: RunPlan,
    share: float,
    part: Corpus,
    corpus: Corpus,
    tokenizer: Tokenizer,
    settings: dict[str, dict[str, Any]],
) -> RunPlan:
    """Returns the plan of an experiment in which models are trained on a part of the train split, such as a quarter.

    - `plan`: the plan for the whole train split.
    - `share`: the size of the part as a fraction, which is stored in the records.
    - `part`: the corpus with only this part of the train split.
    - `corpus`: the corpus with the whole train split.
    - `settings`: the settings of each model family for the whole train split. Numbers of training tokens in them are
      multiplied by the bytes of the part divided by the bytes of the whole train split.
    """
    size = _n_bytes(part) / _n_bytes(corpus)

    def scale(tokens: int) -> int:
        return max(1, round(tokens * size))

    return replace(
        plan,
        corpus=part,
        tokenizer=tokenizer,
        settings={name: scaled(own, scale) for name, own in settings.items()},
        train_share=share,
    )


def _n_bytes(corpus: Corpus) -> int:
    return sum(document.n_bytes for document in corpus.train)


def _with_training_tokens(name: str, plan: RunPlan) -> dict[str, Any]:
    """Returns the settings that a plan gives a species; for a network, the number of training tokens is added.

    The number is needed because training on a share of the text uses the same share of the training tokens.
    """
    settings = dict(plan.settings.get(name, {}))
    if not zoo.is_network(name):
        return settings
    training = getattr(zoo.create(name, 2, **plan.settings_of(name)), "training", None)
    if not isinstance(training, TrainConfig):
        return settings
    return merged(settings, {"training": {"tokens": training.tokens}})


def _tokenizer(path: Path, corpus: Corpus, tokenizer: str | Tokenizer | None, on_progress: OnProgress) -> Tokenizer:
    """Returns the tokenizer of a run: reads it from `path`, or trains it on the train split and writes it there."""
    if not path.exists():
        if not isinstance(tokenizer, Tokenizer):
            tokenizer = tokenizer_for(corpus, tokenizer, on_progress)
        tokenizer.save(path)
    return Tokenizer.load(path)


def _prefixed(
    share: float, on_progress: Callable[[str, Progress], None] | None
) -> Callable[[str, Progress], None] | None:
    if on_progress is None:
        return None
    return lambda name, progress: on_progress(f"{share_name(share)} · {name}", progress)
