"""The reward model: a network that gives a text one number, learned from rankings of texts.

    P(a is preferred to b) = sigmoid(r(a) - r(b))                          Bradley & Terry 1952
    loss = -log sigmoid(r(chosen) - r(rejected))                           Christiano et al. 2017; Ziegler et al. 2019

A ranking of K answers to one prompt gives K (K - 1) / 2 comparisons. They are correlated, so together they count as
much as one ranking of two answers (Ouyang et al. 2022, section 3.5). Only differences of rewards are learned; their
level and their scale are set afterwards, so that reference texts have a mean reward of 0 and a deviation of 1.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.comparisons import Comparisons
from lmzoo.neural.objectives.objective import Step
from lmzoo.neural.objectives.sequences import Rows, last_hidden


def reward_network(network: Network) -> Network:
    """Returns a copy of a network whose output layer computes one number instead of V logits.

    `logits(hidden)` of the result has the shape (.., 1). All rewards are 0 at first. If the output layer of the network
    shares its weights with the embedding, the new output layer has weights of its own, and the embedding stays as it
    is. Raises ConfigurationError if the network has no linear output layer.
    """
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Linear):
        raise ConfigurationError(
            "a reward model needs a network with a linear output layer, such as a transformer, an lstm or a nplm"
        )
    result = copy.deepcopy(network)
    result.head = nn.Linear(head.in_features, 1, device=head.weight.device)
    nn.init.zeros_(result.head.weight)
    nn.init.zeros_(result.head.bias)
    return result


def rewards(network: Network, rows: Rows) -> Tensor:
    """Computes the reward of each of R rows (R,), from the hidden vector after the last token of its text."""
    return network.logits(last_hidden(network, rows))[:, 0].float()


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Computes the loss of each of B comparisons (B,): -log sigmoid(chosen - rejected), in nats.

    `chosen` (B,) are the rewards of the preferred texts, and `rejected` (B,) those of the others.
    """
    return -F.logsigmoid(chosen - rejected)


def reward_objective(network: Network, batch: Comparisons, state: State) -> Step:
    """Computes the loss of a reward network on a batch of comparisons, in nats, for the training loop to minimise.

    `state` is not used: a reward network reads each text from its start. Besides the loss, the number "accuracy" is
    reported, the weighted share of comparisons in which the preferred text has the higher reward.
    """
    scores = rewards(network, batch.rows)  # (R,)
    chosen, rejected = scores[batch.chosen], scores[batch.rejected]  # (B,)
    figures = {"accuracy": batch.mean(chosen > rejected)}
    return Step((bradley_terry(chosen, rejected) * batch.weights).sum(), batch.weights.sum(), figures=figures)


def normalize_rewards(network: Network, reference_rewards: Tensor) -> None:
    """Changes the output layer of a reward network so that N reference texts get mean reward 0 and deviation 1.

    `reference_rewards` (N,) are the rewards of the texts under this network, N at least 2. The deviation is the
    unbiased estimate, with N - 1 in the denominator. Raises ConfigurationError if all rewards are equal.
    """
    if len(reference_rewards) < 2 or not reference_rewards.std() > 0:
        raise ConfigurationError(
            f"rewards can be normalised only if they differ, but all {len(reference_rewards)} reference texts have the "
            "same reward: use other reference texts"
        )
    with torch.no_grad():
        mean, deviation = reference_rewards.mean(), reference_rewards.std()
        network.head.weight /= deviation
        network.head.bias.sub_(mean).div_(deviation)
