"""Learning from conversations and from rankings: what is learned, what stays as it was, and resumption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from micro_models import CONVERSATIONS, PROMPTS, RANKINGS, micro_base, micro_chat, weights_of

from lmzoo import Predictor
from lmzoo.chat.conversation import assistant, user
from lmzoo.chat.fine_tuning import fine_tune, render_all
from lmzoo.chat.preference_learning import dpo, ppo
from lmzoo.chat.preferences import Ranking
from lmzoo.chat.replies import GREEDY, sample_replies
from lmzoo.chat.reward_model import RewardModel, fit_reward_model, normalise
from lmzoo.chat.template import render_reply
from lmzoo.chat.tuning import neural_model, with_chat_vocabulary
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, CorpusError, SavedModelError
from lmzoo.neural.objectives.dpo import reply_log_probs
from lmzoo.neural.objectives.ppo import PpoSettings
from lmzoo.stream import TokenStream
from lmzoo.system.progress import Progress

FEW = {"tokens": 1_500, "batch_size": 2, "chunk_size": 16, "learning_rate": 5e-3}


def test_the_base_keeps_its_weights_and_its_probabilities_when_the_vocabulary_grows() -> None:
    base = micro_base()
    before = weights_of(base)
    wider = with_chat_vocabulary(base)
    assert wider.tokenizer.vocab_size == base.tokenizer.vocab_size + 4
    ids = base.tokenizer.encode("abc cab")
    for n_read in range(len(ids)):
        ours = wider.predict_distribution(ids[:n_read]).log_probs[: base.tokenizer.vocab_size]
        lost = base.predict_distribution(ids[:n_read]).log_probs - ours
        np.testing.assert_allclose(lost, lost[0], atol=1e-5)  # all tokens lose the same share to the new ones
        assert lost[0] > 0
    micro_chat()
    np.testing.assert_array_equal(weights_of(base), before)


@pytest.mark.parametrize("species", ["lstm", "transformer"])
def test_fine_tuning_raises_the_probability_of_what_the_assistant_says(species: str) -> None:
    before, after = with_chat_vocabulary(micro_base(species)), micro_chat(species)
    stream, weights = render_all(CONVERSATIONS[:4], after.tokenizer)
    gain = (after.model.log_probs(stream) - before.model.log_probs(stream)) * weights
    assert gain.sum() / weights.sum() > 0.5
    assert after.species == "gpt-3.5"
    assert after.settings == {"base": species, "settings": dict(micro_base(species).settings)}
    assert after.provenance.parent != micro_chat("lstm" if species != "lstm" else "transformer").provenance.parent


def test_a_chat_model_is_saved_and_loaded(tmp_path: Path) -> None:
    micro_chat().save(tmp_path / "chat")
    loaded = Predictor.load(tmp_path / "chat")
    np.testing.assert_array_equal(weights_of(loaded), weights_of(micro_chat()))
    one, other = (
        sample_replies(
            predictor.model, predictor.tokenizer, PROMPTS, rng=np.random.default_rng(0), decoding=GREEDY, max_tokens=8
        )
        for predictor in (micro_chat(), loaded)
    )
    assert [reply.text for reply in one] == [reply.text for reply in other]


def test_replay_makes_up_the_given_share_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = TokenStream.from_documents([micro_base().tokenizer.encode("abc " * 5)] * 3)
    seen: list[tuple[int, float]] = []

    class Recorded(Exception):
        pass

    def record(stream: TokenStream, config: object, seed: int, *, weights: np.ndarray) -> None:
        seen.append((len(stream), float(weights.sum())))
        raise Recorded

    monkeypatch.setattr("lmzoo.chat.fine_tuning.StreamBatches", record)
    for share in (0.0, 0.5):
        with pytest.raises(Recorded):
            fine_tune(
                micro_base(),
                CONVERSATIONS,
                CONVERSATIONS,
                replay=text,
                replay_share=share,
                replay_weight=0.5,
                training=FEW,
            )
    (alone, weight), (mixed, mixed_weight) = seen
    assert mixed == pytest.approx(2 * alone, abs=25)  # whole documents are added
    assert mixed_weight == weight + 0.5 * (mixed - alone)


def test_conversations_without_a_reply_and_bases_that_are_no_networks_are_refused() -> None:
    with pytest.raises(CorpusError, match="none of the conversations"):
        fine_tune(micro_base(), [(user("a"),)], CONVERSATIONS)
    counting = Predictor.fit("unigram", "kjv", tokenizer="byte")
    with pytest.raises(ConfigurationError, match="choose a base such as transformer"):
        fine_tune(counting, CONVERSATIONS, CONVERSATIONS)


@pytest.fixture(scope="module")
def reward_model() -> RewardModel:
    training = {"tokens": 6_000, "batch_size": 2, "learning_rate": 1e-2}
    return fit_reward_model(micro_chat(), RANKINGS, RANKINGS, training=training)


def test_a_reward_model_orders_replies_as_the_rankings_do(reward_model: RewardModel, tmp_path: Path) -> None:
    assert reward_model.accuracy(RANKINGS) == 1.0
    good, bad = reward_model.rewards([PROMPTS[0], PROMPTS[0]], ["a", "b"])
    assert good > bad
    reward_model.save(tmp_path / "reward")
    loaded = RewardModel.load(tmp_path / "reward")
    np.testing.assert_array_equal(loaded.rewards([PROMPTS[0]], ["a"]), reward_model.rewards([PROMPTS[0]], ["a"]))


def test_rewards_are_normalised_on_reference_replies(reward_model: RewardModel) -> None:
    prompts, replies = [PROMPTS[0]] * 3, ["a", "b", "ab"]
    normalise(reward_model, prompts, replies)
    rewards = reward_model.rewards(prompts, replies)
    assert rewards.mean() == pytest.approx(0, abs=1e-5)
    assert rewards.std(ddof=1) == pytest.approx(1, abs=1e-5)


def test_ties_teach_nothing_and_a_damaged_reward_model_is_refused(reward_model: RewardModel, tmp_path: Path) -> None:
    ties = [Ranking(PROMPTS[0], ("a", "b"), tie=True)]
    with pytest.raises(CorpusError, match="not ties"):
        fit_reward_model(micro_chat(), ties, RANKINGS)
    with pytest.raises(CorpusError, match="not ties"):
        dpo(micro_chat(), ties)
    assert reward_model.accuracy(ties) is None
    reward_model.save(tmp_path / "reward")
    (tmp_path / "reward" / "arrays.safetensors").write_bytes(b"")
    with pytest.raises(SavedModelError):
        RewardModel.load(tmp_path / "reward")


def _margin(predictor: Predictor) -> float:
    """Returns log p("a") - log p("b"), for replies to the first prompt."""
    rendered = [render_reply(PROMPTS[0], reply, predictor.tokenizer) for reply in ("a", "b")]
    log_probs = reply_log_probs(neural_model(predictor).network, [(one.ids, one.weights) for one in rendered])
    return float(log_probs[0] - log_probs[1])


def test_dpo_raises_the_preferred_reply_over_the_other() -> None:
    tuned = dpo(micro_chat(), RANKINGS, training={"tokens": 4_000, "batch_size": 3, "learning_rate": 1e-3})
    assert tuned.species == "chat"
    assert tuned.settings == micro_chat().settings
    assert _margin(tuned) > _margin(micro_chat()) + 1


def test_ppo_makes_replies_of_higher_reward_more_likely(reward_model: RewardModel) -> None:
    settings = PpoSettings(n_replies=32, max_tokens=6, n_minibatches=2, kl_coefficient=0.01)
    training = {"tokens": 30_000, "learning_rate": 3e-3}
    tuned, history = ppo(micro_chat(), reward_model, PROMPTS, settings=settings, training=training)
    assert history[0].kl == 0.0
    assert history[-1].reward > history[0].reward + 0.5
    assert tuned.species == "chat"


STAGES: dict[str, Callable[..., Predictor]] = {
    "fine-tuning": lambda **more: fine_tune(micro_base(), CONVERSATIONS, CONVERSATIONS[:2], training=FEW, **more),
    "dpo": lambda **more: dpo(micro_chat(), RANKINGS, training=FEW, **more),
    "ppo": lambda **more: ppo(
        micro_chat(),
        fit_reward_model(micro_chat(), RANKINGS, RANKINGS, training=FEW),
        PROMPTS,
        settings=PpoSettings(n_replies=8, max_tokens=6, n_minibatches=2),
        training=FEW,
        **more,
    )[0],
}


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_stage_continues_and_gives_the_same_weights(stage: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors")
    steps = 0

    def interrupt(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        STAGES[stage](checkpoint=checkpoint, on_progress=interrupt)
    assert checkpoint.path.exists()
    resumed = STAGES[stage](checkpoint=checkpoint)
    np.testing.assert_array_equal(weights_of(resumed), weights_of(STAGES[stage]()))


def test_a_reply_that_the_assistant_gives_is_what_it_was_taught() -> None:
    training = {"tokens": 60_000, "batch_size": 4, "chunk_size": 32, "learning_rate": 1e-2}
    always = [(user(word), assistant("b")) for word in ("a", "b", "c", "ab")] * 4
    tuned = fine_tune(micro_base(), always, always, training=training)
    (reply,) = sample_replies(
        tuned.model, tuned.tokenizer, [(user("c"),)], rng=np.random.default_rng(0), decoding=GREEDY, max_tokens=8
    )
    assert (reply.text, reply.ended) == ("b", True)
