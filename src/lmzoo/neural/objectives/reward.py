"""The reward model: a network that gives each reply one number, the reward, and learns it from rankings of replies.

    P(a is preferred to b) = sigmoid(r(a) - r(b))                          Bradley & Terry 1952
    loss = -log sigmoid(r(chosen) - r(rejected))                           Christiano et al. 2017; Ziegler et al. 2019

Here r(a) is the reward of the reply a, which depends on the prompt too. A ranking of K replies to one prompt gives
K (K - 1) / 2 comparisons. They are correlated, so together they count as much as one ranking of two replies (Ouyang et
al. 2022, section 3.5). The loss determines only differences of rewards. After training, the rewards are therefore
shifted and scaled so that reference replies have a mean reward of 0 and a standard deviation of 1.
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
    is. Direct connections from n-grams are left out. Raises ConfigurationError if the network has no linear output
    layer.
    """
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Linear):
        raise ConfigurationError(
            f"a reward model needs a network with a linear output layer, and a {type(network).__name__} has none: "
            "choose a transformer, an lstm or an nplm"
        )
    result = copy.deepcopy(network)
    if getattr(result, "maxent", None) is not None:  # direct connections from n-grams, which belong to the output layer
        result.register_module("maxent", None)
    result.head = nn.Linear(head.in_features, 1, device=head.weight.device)
    nn.init.zeros_(result.head.weight)
    nn.init.zeros_(result.head.bias)
    return result


def rewards(network: Network, rows: Rows) -> Tensor:
    """Computes the rewards (R,) of the replies in R rows, each from the hidden vector after the last token."""
    return network.logits(last_hidden(network, rows))[:, 0].float()


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Computes the loss of each of B comparisons (B,): -log sigmoid(chosen - rejected), in nats.

    `chosen` (B,) are the rewards of the preferred replies, and `rejected` (B,) those of the rejected ones.
    """
    return -F.logsigmoid(chosen - rejected)


def reward_objective(network: Network, batch: Comparisons, state: State) -> Step:
    """Computes the loss of a reward network on a batch of comparisons, in nats, for the training loop to minimise.

    `state` is not used, because a reward network reads each sequence from its start. Besides the loss, one measure is
    reported: "accuracy" is the weighted share of comparisons in which the preferred reply has the higher reward.
    """
    of_replies = rewards(network, batch.rows)  # (R,)
    chosen, rejected = of_replies[batch.chosen], of_replies[batch.rejected]  # (B,)
    measures = {"accuracy": batch.mean(chosen > rejected)}
    return Step((bradley_terry(chosen, rejected) * batch.weights).sum(), batch.weights.sum(), measures=measures)


def normalise_rewards(network: Network, reference_rewards: Tensor) -> None:
    """Changes the output layer of a reward network so that N reference replies get mean reward 0 and deviation 1.

    `reference_rewards` (N,) are the rewards of the replies before the change; N is at least 2. The standard deviation
    is the unbiased estimate, with N - 1 in the denominator. Raises ConfigurationError if all rewards are equal.
    """
    if len(reference_rewards) < 2 or not reference_rewards.std() > 0:
        raise ConfigurationError(
            f"rewards can be normalised only if they differ, but all {len(reference_rewards)} reference replies have "
            "the same reward: use different reference replies"
        )
    with torch.no_grad():
        mean, deviation = reference_rewards.mean(), reference_rewards.std()
        network.head.weight /= deviation
        network.head.bias.sub_(mean).div_(deviation)
