"""The leaderboard ranks only what is comparable, and says what its figures depend on."""

from __future__ import annotations

from typing import Any

from lmzoo.evaluation.ranking import grouped_by_seed
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.headline import headline
from lmzoo.report.leaderboard import (
    columns,
    measured_texts,
    notes,
    rows,
    seen_in_train,
    titled_tables,
    tokenizer_names,
)


def record(name: str, tokenizer: str, bits: float | None = None, ppl: float = 10.0, **changes: Any) -> EvalRecord:
    values: dict[str, Any] = {
        "species": name, "settings": {}, "seed": 0, "corpus": "t", "corpus_fingerprint": "f", "protocol": "p",
        "split": "test", "tokenizer": tokenizer, "tokenizer_fingerprint": tokenizer, "lossless": bits is not None,
        "vocab_size": 9, "total_nats": 1.0, "n_bytes": 100, "n_tokens": 50, "n_words": 20, "n_documents": 2,
        "n_impossible": 0, "bits_per_byte": bits, "perplexity_per_token": ppl, "perplexity_per_word": ppl,
        "mean_entropy_bits": 1.0, "top1_accuracy": 0.5, "top5_accuracy": 0.5, "context_size": 1, "n_parameters": 1,
        "n_train_tokens": 1, "fit_seconds": 1.0, "evaluate_seconds": 1.0, "tokens_per_second": 1.0,
    }  # fmt: skip
    return EvalRecord(**{**values, **changes})


FEW, MANY = record("few", "word:50", ppl=12.0, n_unknown=25), record("many", "word:1", ppl=1456.0, n_unknown=1)
BYTES = record("bytes", "byte", 2.0, 3.0)


def test_perplexities_rank_under_one_tokenizer_only() -> None:
    tables = titled_tables([FEW, MANY, BYTES])
    assert [[one.name for one in part] for _, _, part in tables] == [["bytes"], ["few"], ["many"]]
    assert tables[1][0] == "Leaderboard without bits per byte, tokenizer word:50"
    assert "Perplexities under different tokenizers are not comparable." in tables[1][1]
    better = record("better", "word:50", ppl=11.0, n_unknown=25)
    ((_, _, part),) = titled_tables([FEW, better])
    assert [one.name for one in part] == ["better", "few"]


def test_no_model_is_the_best_under_different_tokenizers() -> None:
    found = headline([FEW, MANY], None)
    assert found.best == "No model"
    assert "has bits per byte on t" in found.rest
    assert headline([FEW], None).best == "few"
    assert headline([BYTES, FEW], None).best == "bytes"


def test_unknown_words_stand_beside_the_perplexity() -> None:
    shown = columns([FEW, MANY])
    titles = [column.title for column in shown]
    assert titles.index("unknown") == titles.index("ppl/token") + 1
    cells = {row[0]: row[titles.index("unknown")] for row in rows([FEW, MANY], shown)}
    assert cells == {"few": "50.0%", "many": "2.0%"}
    assert "unknown" not in [column.title for column in columns([BYTES])]


def test_tokenizers_and_memory_are_shown_if_they_tell_something() -> None:
    assert "tokenizer" in [column.title for column in columns([FEW, MANY])]
    assert {"tokenizer", "memory"}.isdisjoint(column.title for column in columns([FEW]))
    assert "memory" in [column.title for column in columns([record("a", "byte", peak_memory_bytes=5_000_000)])]


def test_different_tokenizers_have_different_names() -> None:
    first = record("a", "bpe:300")
    larger = record("b", "bpe:300", tokenizer_fingerprint="1" * 64, vocab_size=10)
    assert [*tokenizer_names([first, larger]).values()] == ["bpe:300 (9 entries)", "bpe:300 (10 entries)"]
    other = record("c", "bpe:300", tokenizer_fingerprint="2" * 64)
    assert tokenizer_names([first, other])["2" * 64] == "bpe:300 (sha256 22222222)"


def test_notes_give_reasons() -> None:
    assert notes([BYTES]) == []
    assert notes([FEW]) == ["No bits per byte: a word tokenizer does not keep unknown words and white space."]
    impossible = record("zero", "byte", lossless=True, n_impossible=3, total_nats=None)
    assert notes([BYTES, impossible]) == ["No bits per byte of zero: the model gave probability 0 to 3 of 50 tokens."]
    seen = [record("a", "byte", 1.0, seen_in_train=0.8), record("b", "byte", 1.0, seen_in_train=0.1)]
    assert notes(seen) == [
        "About 80% of this text also occurs in the training text of a, so the loss of a is lower than on new text."
    ]


def test_each_text_is_described_by_its_size() -> None:
    other = record("other", "byte", 2.0, split="all", n_bytes=7, n_documents=1, corpus="u")
    found = measured_texts([BYTES, other, FEW])
    assert [caption for caption, _ in found] == [
        "t, test split: 2 documents, 20 words, 100 bytes, 50 tokens of byte, 50 tokens of word:50",
        "u, whole text: 1 document, 20 words, 7 bytes, 50 tokens",
    ]


def test_models_trained_elsewhere_have_a_table_of_their_own() -> None:
    elsewhere = {"trained_elsewhere": True, "training_text": "unknown text"}
    large = record("large", "bpe", 1.0, **elsewhere)
    old = record("old", "byte", 3.0, **elsewhere | {"training_text": "/texts/novel.txt"}, seen_in_train=0.5)
    adaptive = record("cache", "byte", 1.5, adapts_on_test=True)
    tables = titled_tables([large, adaptive, old, BYTES])
    assert [[one.name for one in part] for _, _, part in tables] == [["bytes"], ["cache"], ["large", "old"]]
    assert tables[0][1] == "", "a note of another table"
    title, note, part = tables[2]
    assert title == "Models trained elsewhere"
    assert "they are not ranked with the others" in note
    assert "Their training texts: unknown text (large); novel.txt (old)." in note
    assert note.endswith("the training text of old, so the loss of old is lower than on new text.")
    shown = columns([large, BYTES])
    titles = [column.title for column in shown]
    (first, _), (ours,) = rows(part, shown), rows([BYTES], shown)
    hidden = [title for title, cell, of_ours in zip(titles, first, ours, strict=True) if cell == "–" != of_ours]
    assert hidden == ["ppl/token", "top-1", "top-5"]


def test_the_share_seen_in_train_is_about_the_models_of_the_run() -> None:
    elsewhere = record("old", "byte", 1.0, trained_elsewhere=True, seen_in_train=0.9)
    assert seen_in_train([elsewhere, BYTES]) == ""
    assert seen_in_train([elsewhere, record("new", "byte", 1.0, seen_in_train=0.25)]).startswith("25.0% of the words")


def test_seeds_and_models_trained_elsewhere_are_not_one_group() -> None:
    ours = [record("markov", "byte", 2.0, seed=seed) for seed in (0, 1)]
    theirs = [record("markov", "byte", 1.0, trained_elsewhere=True, predictor_digest=digest) for digest in "ab"]
    assert [len(group) for group in grouped_by_seed([*ours, *theirs])] == [2, 1, 1]
    assert not theirs[0].is_ranked
    assert headline([*ours, *theirs], None).best == "markov"
    assert headline(theirs, None).best == "No model"
