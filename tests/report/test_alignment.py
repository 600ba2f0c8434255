"""The page about a run of `lmzoo align`: what it says of runs that went well, badly or not to the end."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from aligned_runs import (
    HISTORY,
    add_best_of_n,
    add_changed_tokens,
    add_grades,
    made_up,
    make_aligned_run,
    records,
    reply_of,
    rollout_measures,
    wins,
)

from lmzoo.chat.instructions import TASKS
from lmzoo.cli import run as lmzoo
from lmzoo.errors import CorpusError, LmzooError, SavedModelError
from lmzoo.experiments.align.stages import write_rollouts
from lmzoo.report import charts
from lmzoo.report.alignment import LABELS, header_and_rows, headline, write_alignment
from lmzoo.report.figures import Figures
from lmzoo.report.replies import read_samples
from lmzoo.report.rollouts import MEASURES, rollout_section


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all stages, files and an earlier run to compare with, and its report."""
    root = tmp_path_factory.mktemp("aligned")
    earlier = [replace(one, base="lstm", mean_accuracy=0.25 if one.mean_accuracy else None) for one in records()]
    make_aligned_run(root / "old", earlier, n_rollouts=0)
    stages = [*records()[:-1], replace(records()[-1], against_earlier=wins(0.66))]
    folder = make_aligned_run(root / "new", stages, against=str(root / "old"))
    add_grades(folder, fall=0.7)
    add_best_of_n(folder)
    add_changed_tokens(folder)
    write_alignment(folder)
    return folder


def pages(folder: Path) -> tuple[str, str]:
    """Returns the HTML page and the Markdown page of a run."""
    html, markdown = ((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    return html.replace("\u00a0", " "), markdown


def test_headline() -> None:
    assert headline(records()) == (
        "After fine-tuning, transformer replies correctly to 90 % (before: 0 %) of the held-out instructions; "
        "according to the judge, PPO wins 78 % (74 to 82 %) and DPO 51 % (47 to 55 %: no significant difference) of "
        "the comparisons with the fine-tuned model; on ordinary text, the loss of PPO is 5.0 % higher than that of the "
        "base."
    )


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ([made_up("base")], "The base transformer has not been fine-tuned yet."),
        (
            [made_up("sft", base="100% x")],
            "After fine-tuning, 100% x replies correctly to 90 % of the held-out instructions.",
        ),
        (
            [made_up("base"), made_up("sft"), made_up("ppo", against_sft=wins(0.3), bits_per_byte=1.0)],
            "After fine-tuning, transformer replies correctly to 90 % (before: 0 %) of the held-out instructions; "
            "according to the judge, PPO wins only 30 % (26 to 34 %) of the comparisons with the fine-tuned model; on "
            "ordinary text, the loss of PPO is 50.0 % lower than that of the base.",
        ),
        (
            [made_up(stage, mean_accuracy=None, bits_per_byte=2.0) for stage in ("base", "sft", "dpo")],
            "Transformer was fine-tuned on conversations; then it learned from rankings by DPO; on ordinary text, the "
            "loss of DPO is equal to that of the base.",
        ),
    ],
)  # fmt: skip
def test_headlines_of_other_runs(stages: list, sentence: str) -> None:
    assert headline(stages) == sentence


USUAL = [label for stage, label in LABELS.items() if stage != "ppo-unpenalised"]


def test_table_of_stages() -> None:
    header, rows = header_and_rows(records())
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert list(table) == USUAL
    assert table["PPO"]["wins against SFT"] == "78 % (74 to 82 %)"
    assert table["reward model"]["best of 16"] == "70 % (66 to 74 %)"
    assert table["reward model"]["reward accuracy"] == "86.0%"
    assert [table[stage]["change from base"] for stage in ("base", "SFT", "PPO")] == ["+0.0%", "+1.0%", "+5.0%"]
    assert table["PPO"]["KL, nats/reply"] == "5.43"
    assert "wins against earlier" not in header, "no stage has it"
    assert header_and_rows([made_up("rankings", n_tokens_read=None, n_parameters=0)]) == (
        ["stage", "time"],
        [["rankings", "62.0 s"]],
    )


def test_both_pages_have_the_same_facts(whole_run: Path) -> None:
    html, markdown = pages(whole_run)
    header, rows = header_and_rows(records())
    sentence = "PPO of this run is better than PPO of the earlier run: it wins 66 % (62 to 70 %) of the comparisons."
    facts = [*header, *itertools.chain(*rows), sentence, "The base of the earlier run is lstm", "25.0%"]
    facts += USUAL + [title for title, _ in MEASURES.values()]
    facts += [
        "These measures are the same in all rollouts: KL penalty 0.05, distinct 1.",
        "corpus fingerprint",
        "lmzoo align",
        "0.001 %",
    ]
    for fact in facts:
        assert fact.replace("'", "&#39;") in html, fact
        assert fact in markdown, fact
    cells = [{line.count(" | ") for line in block.splitlines()} for block in re.findall(r"(?:\|.*\|\n)+", markdown)]
    assert len(cells) == 8
    assert all(len(counts - {0}) == 1 for counts in cells), "all rows of a table have the same number of cells"
    assert "\n\n\n\n" not in markdown
    lines = markdown.splitlines()
    assert not [line for before, line in itertools.pairwise(lines) if line.startswith("#") and before], "headings"


def test_pages_need_no_other_file(whole_run: Path) -> None:
    html, markdown = pages(whole_run)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html)
    assert len(html.encode()) < 1_000_000
    drawn = set(re.findall(r"\(figures/(.*?)\.svg\)", markdown))
    assert drawn == {path.stem for path in (whole_run / "figures").glob("*.svg")}
    assert {"accuracy", "wins", "ppo-reward", "ppo-grade", "ppo-kl", "ppo-reward-and-kl", "ppo-grade-and-kl"} < drawn
    assert "ppo-kl-coefficient" not in drawn, "a constant has no figure"
    assert html.count("<svg") == len(drawn)
    assert (whole_run / "results.csv").read_text(encoding="utf-8").count("\n") == 1 + len(records())


def test_a_run_of_the_base_alone(tmp_path: Path) -> None:
    html, markdown = pages(make_report(tmp_path, [made_up("base", accuracy={}, mean_accuracy=None)], n_rollouts=0))
    for page in (html, markdown):
        assert "has not been fine-tuned yet" in page
        assert "The training of PPO" not in page
        assert "whose probabilities changed" not in page
        assert "earlier run" not in page


def make_report(folder: Path, stages: list, n_rollouts: int = 100) -> Path:
    make_aligned_run(folder / "run", stages, n_rollouts=n_rollouts)
    write_alignment(folder / "run")
    return folder / "run"


def test_a_run_without_graded_replies(tmp_path: Path) -> None:
    """Instructions of one's own have no known answers, so there are no replies, accuracies and wins."""
    stages = [
        made_up(stage, accuracy={}, mean_accuracy=None, grade=None) for stage in ("base", "sft", "rankings", "ppo")
    ]
    folder = make_aligned_run(tmp_path / "run", stages)
    shutil.rmtree(folder / "replies")
    write_alignment(folder)
    html, markdown = pages(folder)
    for page in (html, markdown):
        assert "was fine-tuned on conversations; then it learned from rankings by PPO" in page
        assert "held-out" not in page
        assert "Wins against SFT" not in page
        assert "The training of PPO" in page


def test_an_earlier_run_that_is_gone(tmp_path: Path) -> None:
    stages = [made_up("sft"), made_up("ppo", against_earlier=wins(0.4))]
    folder = make_aligned_run(tmp_path / "run", stages, against=str(tmp_path / "nowhere"), n_rollouts=0)
    write_alignment(folder)
    for page in pages(folder):
        assert (
            "PPO of this run is worse than PPO of the earlier run: it wins 40 % (36 to 44 %) of the comparisons."
            in page
        )
        assert "cannot be read, so only the wins are shown" in " ".join(page.split())
        assert "correct, earlier" not in page


def test_losses_on_other_texts_are_not_compared(tmp_path: Path) -> None:
    make_aligned_run(tmp_path / "old", records(), n_rollouts=0)
    request = json.loads((tmp_path / "old" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "old" / "run.json").write_text(json.dumps(request | {"corpus_fingerprint": "other"}), encoding="utf-8")
    stages = [made_up("sft"), made_up("dpo", against_earlier=wins(0.5))]
    folder = make_aligned_run(tmp_path / "run", stages, against=str(tmp_path / "old"), n_rollouts=0)
    write_alignment(folder)
    for page in pages(folder):
        assert "DPO of this run does not differ significantly from DPO of the earlier run" in page
        assert "The bases learned different texts, so the losses cannot be compared." in " ".join(page.split())
        assert "bits/byte, earlier" not in page


# ---- Replies -----------------------------------------------------------------------------------------


def test_samples_are_the_first_instruction_of_each_task(whole_run: Path) -> None:
    samples, n_test = read_samples(whole_run, ["base", "sft", "rankings", "reward", "dpo", "ppo"])
    assert n_test == 40
    assert [sample.instruction.task for sample in samples] == list(TASKS)
    entries = [json.loads(line) for line in (whole_run / "replies" / "ppo.jsonl").read_text("utf-8").splitlines()]
    assert [sample.instruction.prompt for sample in samples] == [entry["prompt"] for entry in entries[: len(TASKS)]]
    assert [reply.stage for reply in samples[0].likeliest] == ["base", "sft", "dpo", "ppo"]
    assert [reply.mark for reply in samples[0].likeliest] == ["✗", "✗", "✗", "✓"], "prompt number 0 has wrong replies"
    assert [reply.text for reply in samples[1].likeliest] == [
        reply_of(stage, samples[1].instruction, 1) for stage in ("base", "sft", "dpo", "ppo")
    ]
    html, markdown = pages(whole_run)
    assert html.count('aria-label="correct">✓') == markdown.count("✓ `") == 2 * (7 + 7 + 8)
    assert html.count('aria-label="wrong">✗') == markdown.count("✗ `") == 2 * (8 + 1 + 1)


def test_long_and_empty_replies(tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("sft")], n_rollouts=0)
    edit_replies(folder, {"likeliest": "x" * 5000, "sampled": ""})
    write_alignment(folder)
    for page in pages(folder):
        assert f"{'x' * 300}…" in page
        assert "x" * 301 not in page
        assert "(empty)" in page


def edit_replies(folder: Path, changes: dict) -> None:
    """Changes the first line of the fine-tuned model's replies."""
    path = folder / "replies" / "sft.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest]) + "\n", encoding="utf-8")


HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:b) `c` | *d* \x1b[31m \u202e"


def test_what_models_and_users_write_is_no_markup(tmp_path: Path) -> None:
    stages = [made_up("sft", base=HOSTILE, accuracy={HOSTILE: 1.0}, settings={HOSTILE: HOSTILE}, command=HOSTILE)]
    folder = make_aligned_run(tmp_path / "run", stages, n_rollouts=0)
    names = ("task", "prompt", "answer", "likeliest", "sampled")
    edit_replies(folder, dict.fromkeys(names, HOSTILE))
    (folder / "changed_tokens.json").write_text(
        json.dumps([{"prompt": HOSTILE, "token": HOSTILE, "sft": -1.0, "ppo": 5.0}]), encoding="utf-8"
    )
    write_alignment(folder)
    html, markdown = pages(folder)
    outside_code = re.sub(r"`[^`\n]*`", "", markdown)
    assert "<img" not in outside_code
    assert "[a](" not in outside_code
    assert "<img" not in re.sub(r"`.*?`", "", html)
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") > 8
    for page in (html, markdown, (folder / "results.csv").read_text(encoding="utf-8")):
        assert "\x1b" not in page
        assert "\u202e" not in page
    rows = [line for line in markdown.splitlines() if line.startswith("| `") and "ˋcˋ" in line]
    assert len(rows) == 3, "both tables of replies, and the table of probabilities"
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 5) for row in rows), "no reply ends its cell"
    assert "100 %" in markdown, "a log-probability above 0 is that of a certain token"


@pytest.mark.parametrize("field", ["task", "likeliest"])
def test_damaged_replies(field: str, tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("sft")], n_rollouts=0)
    edit_replies(folder, {field: 5})
    with pytest.raises(CorpusError, match=r"sft\.jsonl line 1 must have texts in task, prompt"):
        write_alignment(folder)


# ---- Rollouts ----------------------------------------------------------------------------------------


def test_a_peak_of_the_grade_is_over_optimisation(whole_run: Path) -> None:
    section = rollout_section(whole_run, "ppo", Figures())
    assert section is not None
    # R = 1 + d (1 - 0.7 log d) is highest at log d = 1 / 0.7 - 1, and KL = d^2.
    peak = math.exp(2 / 0.7 - 2)
    assert section.verdict == (
        f"The judge's grade falls beyond a divergence of {peak:.1f} nats per reply: from there on, the reward model "
        "rewards what the judge does not value."
    )
    curves = {tuple(row[:2]): row[2:] for row in section.curves}
    assert curves["PPO", "judge's grade"] == ["1.000", "0.700", "1.00", f"{peak:.1f}"]
    assert curves["best of n", "reward"] == ["1.000", "0.200", "1.00", "–"], "the peak is beyond the largest n"
    assert curves["best of n", "judge's grade"][:2] == ["0.500", "0.000"]
    assert len(section.reward_figures) == 2


@pytest.mark.parametrize(
    ("fall", "sentence"),
    [(0.1, "rises up to the largest divergence, so this training run shows no over-optimisation"), (9, "falls beyond")],
)
def test_other_verdicts(fall: float, sentence: str, tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("ppo")])
    add_grades(folder, fall=fall)
    section = rollout_section(folder, "ppo", Figures())
    assert section is not None
    assert sentence in section.verdict


def test_a_grade_of_noise_is_no_trend(tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("ppo")])
    lines = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
    noise = [math.sin(100 * number) for number in range(len(lines))]
    rows = [f"{line},{value}" for line, value in zip(lines[1:], noise, strict=False)]
    (folder / HISTORY).write_text("\n".join([f"{lines[0]},grade", *rows]), encoding="utf-8")
    section = rollout_section(folder, "ppo", Figures())
    assert section is not None
    assert "neither rises nor falls significantly" in section.verdict


def test_training_without_penalty_has_a_section_of_its_own(tmp_path: Path) -> None:
    stages = [made_up("ppo"), replace(made_up("ppo"), stage="ppo-unpenalised")]
    folder = make_aligned_run(tmp_path / "run", stages)
    write_rollouts(folder / "ppo-unpenalised.csv", rollout_measures(50, grade=1.0))
    write_alignment(folder)
    for text in pages(folder):
        assert "The training of PPO\n" in text or "The training of PPO</h2>" in text
        assert "The training of PPO without penalty" in text
    assert (folder / "figures" / "ppo-unpenalised-reward.svg").exists()


def test_many_rollouts_are_averaged(tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("ppo")], n_rollouts=1001)
    section = rollout_section(folder, "ppo", Figures())
    assert section is not None
    assert (section.n_rollouts, section.n_averaged) == (1001, 6)
    first, last = (float(cell) for cell in section.rows[0][1:])
    rewards = [measures.reward for measures in rollout_measures(1001)]
    assert first == pytest.approx(sum(rewards[:101]) / 101, abs=6e-4)
    assert last == pytest.approx(sum(rewards[-101:]) / 101, abs=6e-4)
    assert section.verdict == ""
    assert len(section.reward_figures) == 1


def test_a_single_rollout(tmp_path: Path) -> None:
    section = rollout_section(make_aligned_run(tmp_path / "run", [made_up("ppo")], n_rollouts=1), "ppo", Figures())
    assert section is not None
    assert section.curves == []
    assert section.figures == []
    assert len(section.constant) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward,kl_coefficient\n1,2\n", "the column kl is missing"),
        ("reward,kl\n1,x\n", "could not convert"),
        ("reward,kl\n1\n", "is damaged"),
        ("reward,kl\n1,nan\n", "not finite"),
        ("reward,kl\n1,1e200\n", "not finite"),
    ],
)
def test_damaged_rollouts(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_text(text, encoding="utf-8")
    with pytest.raises(SavedModelError, match=message) as caught:
        rollout_section(tmp_path, "ppo", Figures())
    assert "ppo.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{}", "[", '[{"prompt": "a", "token": "b"}]', '[{"prompt": 1, "token": "", "sft": 0}]']
)
def test_damaged_probabilities(text: str, tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [made_up("sft")], n_rollouts=0)
    (folder / "changed_tokens.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        SavedModelError, match=r"changed_tokens\.json is not a list of tokens with their log-probabilities"
    ):
        write_alignment(folder)


# ---- Figures and the command -------------------------------------------------------------------------


def test_figures() -> None:
    chart = charts.by_task({"SFT": {"repeat": 1.0, "spell": 0.5}, "PPO": {"repeat": 1.0}})
    assert charts.as_svg(chart).startswith("<svg")
    cells = {(row["stage"], row["task"]): row["text"] for row in chart.to_dict()["data"]["values"]}
    assert cells["SFT", "mean"] == "75"
    assert cells["SFT", "spell"] == "50"
    assert cells["PPO", "mean"] == "100"
    chart = charts.wins({"best of 4": wins(0.7), "PPO": wins(0.2)}, "best of 4")
    assert "20 %" in charts.as_svg(chart)


def test_report_command(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(whole_run, tmp_path / "run")
    (folder / "report.html").unlink()
    assert lmzoo(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [str(folder / "report.md"), str(folder / "report.html")]
    assert pages(folder)[0] == pages(whole_run)[0]
    assert lmzoo(["report", str(folder), str(folder)]) == 2
    assert "holds a run of `lmzoo align`, which has a page of its own" in " ".join(capsys.readouterr().err.split())


def test_a_run_without_results(tmp_path: Path) -> None:
    folder = make_aligned_run(tmp_path / "run", [], n_rollouts=0)
    with pytest.raises(LmzooError, match="there are no results of lmzoo align in"):
        write_alignment(folder)
