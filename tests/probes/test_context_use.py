"""How far back models look: models whose reach is known, exact values, and how they are shown."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo import Predictor, zoo
from lmzoo.cli import run
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import CorpusError, NotFittedError, TokenIdError, UsageError
from lmzoo.experiments.compare import compare
from lmzoo.language_model import LanguageModel, Progress
from lmzoo.probes import context_use as probe
from lmzoo.probes.context_use import ContextUse, Reach, context_use
from lmzoo.report import charts, write_report
from lmzoo.report.context_use import HEADER, Use, rows
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 12


class ByHand(LanguageModel[tuple[int, ...]]):
    """A model whose state is all of the document so far; `next_log_probs` says what it makes of it."""

    context_size = None
    fitted = True

    def fit(self, data: TrainingData, **_: Any) -> Self:
        return self

    def initial_state(self) -> tuple[int, ...]:
        return ()

    def advance(self, state: tuple[int, ...], token_id: int) -> tuple[int, ...]:
        return () if token_id == EOT else (*state, token_id)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_arrays(self, arrays: Any) -> Self:
        return self


class Echo(ByHand):
    """Expects the token `lag` back with 9 / 10, all ids alike with 1 / 10; if there is none, it knows nothing."""

    def __init__(self, lag: int, context_size: int | None = None) -> None:
        super().__init__(V)
        self.lag, self.context_size = lag, context_size

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        if len(state) < self.lag:
            return np.full(V, -math.log(V))
        return np.log(0.1 / V + 0.9 * (np.arange(V) == state[-self.lag]))


class Bag(ByHand):
    """Expects each id as often as the document has it so far, in whatever order: (count + 1) / (n + V)."""

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        counts = np.bincount(np.array(state, np.int64), minlength=V) + 1.0
        return np.log(counts / counts.sum())


def echoes(lag: int, sizes: list[int], seed: int = 0) -> TokenStream:
    """Documents in which nine of ten tokens are those `lag` before them."""
    rng = np.random.default_rng(seed)
    documents = []
    for size in sizes:
        ids = rng.integers(1, V, size)
        for place in np.flatnonzero(rng.random(size) < 0.9):
            ids[place] = ids[place - lag] if place >= lag else ids[place]
        documents.append(ids)
    return TokenStream.from_documents(documents)


# ---- Models whose reach is known ---------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 3, 6, 16])
def test_a_model_that_uses_one_token_far_back(lag: int) -> None:
    """Cut or shuffled closer, it loses what the token tells it; and with `lag` tokens it has all."""
    stream = echoes(lag, [200] * 12)
    use = context_use(Echo(lag), stream, max_context=40, n_positions=24)
    assert use.max_context == 40
    hit, miss = -math.log(0.9 + 0.1 / V), -math.log(0.1 / V)
    assert set(np.round(use.whole.ravel(), 9)) == {round(hit, 9), round(miss, 9)}
    start = min(lag, 16)  # of each stretch of 41, cut at 0, 16 and not at 32, as that piece would be shorter
    pieces = use.whole[:, :32].reshape(-1, 2, 16)[:, :, :start].mean(1)
    np.testing.assert_allclose(use.cut[:, :start], math.log(V) - pieces)
    np.testing.assert_array_equal(use.cut[:, lag:], 0)
    np.testing.assert_array_equal(use.shuffled[:, lag:], 0)
    assert (use.loss("cut")[use.lengths >= lag] == use.whole.mean()).all()
    assert (use.loss("cut")[use.lengths < lag] > use.whole.mean() + 1).all()
    for kind in ("cut", "shuffled"):
        assert use.reach(kind) == Reach(lag, lag, lag)
    # A model that says how far it sees is not asked for what it cannot know, and the rest is the same.
    told = context_use(Echo(lag, context_size=lag), stream, max_context=40, n_positions=24)
    for kind in ("whole", "cut", "shuffled"):
        np.testing.assert_array_equal(getattr(told, kind), getattr(use, kind))


def test_a_bag_of_words_has_no_order() -> None:
    rng = np.random.default_rng(0)  # documents with words of their own: what a document has said it says again
    stream = TokenStream.from_documents(rng.choice(rng.integers(1, V, 3), 100) for _ in range(20))
    use = context_use(Bag(V), stream, max_context=30)
    np.testing.assert_allclose(use.shuffled, 0, atol=1e-12)
    assert use.reach("shuffled").tokens == 0
    assert use.reach("cut").tokens > 10
    loss = use.loss("cut")
    assert loss[0] == pytest.approx(use.whole.mean() + (math.log(V) - use.whole[:, 0]).mean())
    assert loss[0] > loss[3] > loss[-1] > use.whole.mean()


def test_a_model_that_needs_more_than_was_tried() -> None:
    use = context_use(Echo(30), echoes(30, [100] * 10), max_context=20, n_positions=16)
    assert use.reach("cut") == Reach(21, 21, 21)


# ---- Exact values ------------------------------------------------------------------------------------

DATA = TrainingData(echoes(2, [30] * 20), echoes(2, [30] * 5))
TRAINING = {"tokens": 500, "batch_size": 4, "chunk_size": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "unigram": {},
    "markov": {},
    "ngram": {"order": 4},
    "cache": {},
    "infinigram": {},
    "hmm": {"n_states": 4},
    "lstm": {"d_embed": 5, "d_hidden": 6, "training": TRAINING},
    "gpt2": {"d_model": 8, "n_layers": 1, "n_heads": 2, "window": 8, "training": TRAINING},
}


@pytest.mark.parametrize("species", SETTINGS)
def test_losses_are_those_of_single_predictions(species: str) -> None:
    model = zoo.create(species, V, **SETTINGS[species]).fit(DATA)
    stream = echoes(2, [3, 30, 9, 1, 40], seed=1)
    use = context_use(model, stream, max_context=9, n_positions=5)
    assert use.whole.shape == (5, 10)
    for row, position in enumerate(use.positions.tolist()):
        begin = int(stream.starts[use.documents[row]])
        assert position - begin >= use.max_context
        for n in range(10):
            observed = int(stream.ids[position + n])
            whole, cut = (
                -model.predict_distribution(stream.ids[first : position + n]).log_prob(observed)
                for first in (begin, position)
            )
            assert use.whole[row, n] == pytest.approx(whole, abs=1e-4)
            assert use.cut[row, n] == pytest.approx(cut - whole, abs=2e-4)


def test_only_what_stands_before_a_stretch_is_shuffled() -> None:
    """What the model reads, three times for each batch: the documents so far, the stretches alone, and the disorder."""
    read: list[TokenStream] = []

    class Listening(Bag):
        def log_probs(self, ids: Any) -> NDArray[np.float64]:
            read.append(ids)
            return super().log_probs(ids)

    stream = echoes(2, [60, 50])
    use = context_use(Listening(V), stream, max_context=12, n_positions=7)
    whole, cut, shuffled = read
    for row, position in enumerate(use.positions.tolist()):
        begin = int(stream.starts[use.documents[row]])
        so_far, stretch = stream.ids[begin:position], stream.ids[position : position + 13]
        texts = [[ids.tolist() for ids in one.documents() if len(ids) > 1][row] for one in (whole, cut, shuffled)]
        ending = [*stretch[stretch != EOT].tolist(), EOT]
        assert texts[0] == [*so_far.tolist(), *ending]
        assert texts[1] == ending
        assert texts[2][position - begin :] == ending
        assert texts[2][: position - begin] != so_far.tolist()
        assert sorted(texts[2][: position - begin]) == sorted(so_far.tolist())


def test_batches_change_nothing_and_report_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = echoes(3, [80] * 6)
    whole = context_use(Bag(V), stream, max_context=20, n_positions=10)
    monkeypatch.setattr(probe, "_N_ROWS", 4)
    seen: list[Progress] = []
    parts = context_use(Bag(V), stream, max_context=20, n_positions=10, on_progress=seen.append)
    for kind in ("whole", "cut", "shuffled"):
        np.testing.assert_allclose(getattr(parts, kind), getattr(whole, kind))
    assert [(one.done, one.total) for one in seen] == [(4, 10), (8, 10), (10, 10)]


def test_lengths_and_levels() -> None:
    """Eight lengths for every doubling; each stands for those up to the next, and the last one is not cut short."""
    documents, whole = np.array([0, 0, 1]), np.zeros((3, 41))
    whole[:, 0] = 41.0  # one nat a token on average
    excess = np.maximum(0.0, 20 - np.arange(41)) + np.zeros((3, 1))
    use = ContextUse(np.arange(3), documents, whole, excess, np.zeros_like(whole))
    # 2^(k/8) from 2^4: 16, 17.4, 19.0, 20.7, 22.6, 24.7, 26.9, 29.3, 32, 34.9; not 38.1, whose step would end at 41.5.
    assert use.lengths.tolist() == [*range(15), 16, 17, 19, 20, 22, 24, 26, 29, 32, 34]
    loss = dict(zip(use.lengths.tolist(), use.loss("cut").tolist(), strict=True))
    assert loss[0] == 1 + 20
    assert loss[14] == 1 + 5.5  # 14 and 15
    assert loss[17] == 1 + 2.5  # 17 and 18: 3 and 2
    assert loss[19] == 1 + 1  # 19 alone
    assert loss[20] == 1
    np.testing.assert_allclose(use.loss("shuffled"), 1)
    assert use.reach("cut") == Reach(20, 20, 20)
    # 1.6 nats are a perplexity of e^1.6 = 5 times as much: 19 tokens cost 1, and 17 and 18 cost 2.5.
    assert use.reach("cut", tolerance=math.expm1(1.6)).tokens == 19
    assert use.n_documents == 2


def test_the_interval_is_over_documents() -> None:
    """One document of two needs 3 tokens, the other none: a quarter of the draws has only one or only the other."""
    excess = np.zeros((4, 11))
    excess[:2, :3] = 1.0
    use = ContextUse(np.arange(4), np.array([5, 5, 9, 9]), np.ones((4, 11)), excess, np.zeros((4, 11)))
    assert use.reach("cut") == Reach(3, 0, 3)


# ---- Positions ---------------------------------------------------------------------------------------


def test_contexts_are_as_long_as_half_of_the_text_allows() -> None:
    # Documents of 4, 31, 10, 2 and 18 tokens: those of 31 and 18 hold half of all 65; and 18 are 8 tokens and 8 + 1.
    stream = echoes(2, [3, 30, 9, 1, 17])
    use = context_use(Bag(V), stream, n_positions=1000)
    assert use.max_context == 8
    # 31 tokens have a stretch of 9 after 8 .. 22 tokens, of which those up to 15 are taken; and 18 after 8 and 9.
    depths = (use.positions - stream.starts[use.documents]).tolist()
    assert depths == sorted([*range(8, 16), 8, 9])
    deep = context_use(Bag(V), echoes(2, [300]), max_context=5, n_positions=1000)
    assert sorted(deep.positions.tolist()) == list(range(5, 10))
    # The last document may be open.
    assert context_use(Bag(V), stream.ids[4:34], max_context=8).max_context == 8


def test_the_same_seed_gives_the_same_stretches_to_every_model() -> None:
    stream = echoes(2, [50] * 9)
    first, second = (context_use(model, stream, max_context=10, n_positions=5) for model in (Bag(V), Echo(2)))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert (context_use(Bag(V), stream, max_context=10, n_positions=5, seed=1).positions != first.positions).any()


def test_what_cannot_be_measured() -> None:
    for short in ([], [EOT], [1, EOT, 2, EOT]):
        with pytest.raises(CorpusError, match="too short"):
            context_use(Bag(V), short)
    with pytest.raises(NotFittedError):
        context_use(zoo.create("markov", V), echoes(2, [50]))
    with pytest.raises(TokenIdError, match="outside the vocabulary"):
        context_use(Bag(V), [1, 2, V])
    for wrong in ({"max_context": 0}, {"n_positions": 0}):
        with pytest.raises(UsageError, match="must be a whole number"):
            context_use(Bag(V), echoes(2, [50]), **wrong)
    with pytest.raises(UsageError, match="tolerance must be"):
        context_use(Bag(V), echoes(2, [50])).reach("cut", tolerance=0)

    class Sure(ByHand):
        def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
            return np.where(np.arange(V) == 1, 0.0, -np.inf)

    with pytest.raises(UsageError, match="impossible"):
        context_use(Sure(V), echoes(2, [50]))


# ---- How it is shown ---------------------------------------------------------------------------------


def use_of(name: str, lost: list[float], *, whole: float = 1.0, year: int | None = 2000) -> Use:
    """One stretch of each of two documents, where a cut costs `lost` bits a token, and disorder half of that."""
    levels = np.full((2, len(lost)), whole * math.log(2))
    excess = np.array(lost) * math.log(2)
    return Use(name, year, ContextUse(np.arange(2), np.arange(2), levels, levels * 0 + excess, levels * 0 + excess / 2))


def test_table() -> None:
    lost = [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    uses = [use_of("four", lost), use_of("none", [0.0] * 6, whole=2.0), use_of("more", [0.5] * 6)]
    assert uses[0].context.lengths.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows(uses) == [
        ["four", "4.00", "1.00", "", "", "", "1.00", "4", "4"],
        ["none", "2.00", "2.00", "", "", "", "2.00", "0", "0"],
        ["more", "1.50", "1.50", "", "", "", "1.00", "over 5", "over 5"],
    ]
    assert {len(row) for row in rows(uses)} == {len(HEADER)}
    assert uses[0].bits("shuffled") == pytest.approx({0: 3, 1: 2.5, 2: 2, 3: 1.5, 4: 1, 5: 1})
    few = use_of("few", [1.0, 1.0, 0.0])
    few.context.cut[1] = 0  # the other document needs nothing
    assert few.reach_text("cut") == "2 (0–2)"


def test_figure() -> None:
    uses = [use_of("four", [4.0, 3, 2, 1, 0, 0]), use_of("none", [0.0] * 6), use_of("more", [3.0, 0, 0, 0, 0, 0])]
    chart = charts.by_context([*uses, use_of("visitor", [1.0, 1, 1, 0, 0, 0], year=None)])
    assert charts.as_svg(chart).startswith("<svg")
    points = chart.to_dict()["data"]["values"]
    assert {point["species"] for point in points} == {"four", "more", "visitor"}, "what looks at nothing is not drawn"
    cut = [point for point in points if point["species"] == "four" and "cut" in point["panel"]]
    assert [(point["tokens"], round(point["bits"], 6)) for point in cut] == [(1, 4), (2, 3), (3, 2), (4, 1), (5, 1)]
    assert [point["tokens"] for point in cut if point["dot"]] == [4]
    places = sorted(point["place"] for point in points if "place" in point and "cut" in point["panel"])
    assert np.diff(places).min() > 0.05, "labels of lines that end together lie apart"
    assert charts.as_svg(charts.by_context(uses[1:2])).startswith("<svg"), "unless there is nothing else"


def test_labels_lie_apart() -> None:
    assert apart([5, 1, 9], 1) == [5, 1, 9]
    assert apart([3, 3, 3], 2) == [1, 3, 5]
    np.testing.assert_allclose(apart([4, 3, 10], 2), [4.5, 2.5, 10])


@pytest.fixture(scope="module")
def run_folder(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert not compare(folder, species=["unigram", "trigram"], corpus=corpus_folder, tokenizer="bpe:300").failures
    write_report(folder)
    return folder


def test_the_report_says_how_far_back_they_look(run_folder: Path) -> None:
    html, markdown = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    valid = EncodedCorpus.load(run_folder / "encoded").valid.stream
    found = []
    for name in ("unigram", "trigram"):
        model = Predictor.load(run_folder / "predictors" / name).model
        found.append(Use.of(name, name, context_use(model, valid)))
    use = found[1].context
    assert use.max_context < 256
    for page, end in ((html, "<h2>Where they differ"), (markdown, "## Where they differ")):
        section = page.split("How far back each one looks", 1)[1].split(end)[0]
        assert f"{len(use.positions)} stretches of the valid split, out of {use.n_documents} documents" in section
        assert f"more than {use.max_context} tokens were not tried" in " ".join(section.split())
        assert all(cell in section for row in rows(found) for cell in row)
    assert "<svg" in html.split("How far back each one looks", 1)[1].split("<h2>Where they differ")[0]
    lines = markdown.splitlines()
    assert not [line for before, line in itertools.pairwise(lines) if line.startswith("#") and before], "headings"


def test_a_report_goes_on_where_context_cannot_be_measured(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"text": "{letter}"}}\n' for letter in "abcdefghij" * 3), encoding="utf-8")
    compare(tmp_path / "run", species=["unigram"], corpus=corpus, tokenizer="char")
    write_report(tmp_path / "run")
    assert "How far back" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_context_command(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default all predictors of `make compare`, on the valid split of the corpus of each."""
    shutil.copytree(run_folder, tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    assert run(["context", "--max-context", "20", "--positions", "9", "--seed", "3", "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["species"] for one in said] == ["unigram", "trigram"]
    model = Predictor.load(run_folder / "predictors" / "trigram").model
    valid = EncodedCorpus.load(run_folder / "encoded").valid.stream
    use = Use.of("trigram", "trigram", context_use(model, valid, max_context=20, n_positions=9, seed=3))
    assert said[1]["max_context"] == 20
    assert said[1]["n_positions"] == 9
    assert said[1]["lengths"] == use.context.lengths.tolist()
    assert said[1]["bits_cut"] == list(use.bits("cut").values())
    assert said[1]["bits_shuffled"] == list(use.bits("shuffled").values())
    assert said[1]["looks_back"] == asdict(use.reaches["cut"])
    assert said[0]["order_matters"] == {"tokens": 0, "low": 0, "high": 0}

    assert run(["context", "-p", "runs/quick/predictors/trigram", "--max-context", "20", "--svg", "figure.svg"]) == 0
    captured = capsys.readouterr()
    assert "trigram" in captured.out
    assert "contexts of up to 20 tokens" in captured.err.replace("\n", " ")
    assert Path("figure.svg").read_text(encoding="utf-8").startswith("<svg")


def test_context_says_if_tokens_differ(
    run_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Predictor.fit("unigram", corpus_folder, tokenizer="char").save(tmp_path / "chars")
    homes = [str(run_folder / "predictors" / name) for name in ("unigram", "trigram")]
    for others, said in (([homes[1]], False), ([homes[1], str(tmp_path / "chars")], True)):
        pairs = [argument for home in (homes[0], *others) for argument in ("-p", home)]
        assert run(["context", *pairs, "--max-context", "8", "--positions", "9"]) == 0
        assert ("different tokenizers" in capsys.readouterr().err) is said


def test_wrong_calls_of_context(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(run_folder / "predictors" / "unigram")
    for status, arguments, message in (
        (2, ["-p", home, "--max-context", "0"], "max_context must be a whole number"),
        (2, ["-p", home, "--positions", "0"], "n_positions must be a whole number"),
        (2, ["-p", home, "--corpus", "kjw"], "did you mean 'kjv'"),
        (1, ["-p", "nowhere"], "no saved predictor in nowhere"),
    ):
        assert run(["context", *arguments]) == status
        assert message in " ".join(capsys.readouterr().err.split())
