"""What the free-energy agent adds to DQN's networks: an ensemble that predicts the next state, and a policy."""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import FlattenExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_entropic.actor_critic.discrete_policies import CategoricalActor
from sb3_entropic.checks import check_count
from sb3_entropic.value_based import policies

LOG_STD_RANGE = (-7.0, 5.0)
"""Of what an ensemble predicts, in units of the observations: from a thousandth to a hundred and more."""


class TransitionEnsemble(BaseModel):
    """``p_k(s' - s | s, a)``: several independent diagonal Gaussians of how an action changes the state.

    Each begins as another network and all see the same transitions, so that they agree where there were many.

    :param observation_space: vectors
    :param action_space: discrete
    :param n_members: how many
    :param net_arch: hidden layers of each
    :param activation_fn: between them
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        n_members: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
    ):
        super().__init__(observation_space, action_space, features_extractor=FlattenExtractor(observation_space))
        n_features, n_actions = observation_space.shape[0], int(action_space.n)
        sizes = (n_features + n_actions, 2 * n_features, net_arch, activation_fn)
        self.members = nn.ModuleList(nn.Sequential(*create_mlp(*sizes)) for _ in range(n_members))
        self.register_buffer("_numbers", th.arange(n_actions), persistent=False)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Means and standard deviations of ``s' - s``, each ``(n_members, batch, n_features)``, in units of observations.

        :param observations: ``(batch, n_features)``
        :param actions: indices, ``(batch, 1)``
        """
        states = self.extract_features(observations, self.features_extractor)
        pairs = th.cat([states, (actions == self._numbers).to(states.dtype)], dim=1)
        means, raw = th.stack([member(pairs) for member in self.members]).chunk(2, dim=-1)
        low, high = LOG_STD_RANGE
        return means, (low + 0.5 * (high - low) * (1 + th.tanh(raw))).exp()

    def changes(self, observations: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """``s' - s``, ``(batch, n_features)``."""
        before, after = (self.extract_features(each, self.features_extractor) for each in (observations, next_observations))
        return after - before


def information_gain(means: th.Tensor, stds: th.Tensor) -> th.Tensor:
    """What observing the next state is expected to tell about which member of an ensemble is right: ``I(s'; k | s, a)``.

    ``H[mean_k p_k] - mean_k H[p_k]``, with the mixture's entropy replaced by that of the diagonal Gaussian of the same
    means and variances, the largest it can have: so an upper bound, and without sampling. It is 0, to rounding, exactly where
    all members agree. Noise that they agree on is no information, unlike an error of prediction, which it raises for ever.

    Source: the parameters' part of expected free energy (arXiv 2002.12636), there estimated from samples.

    :param means: of diagonal Gaussians, ``(n_members, ..., n_features)``
    :param stds: their standard deviations > 0, the same shape
    :return: nats, >= 0 to rounding, ``(...,)``; does not depend on the units of the features
    """
    variances = stds**2
    of_the_mixture = variances.mean(dim=0) + means.var(dim=0, correction=0)
    return 0.5 * (of_the_mixture.log() - variances.log().mean(dim=0)).sum(dim=-1)


class MlpPolicy(policies.MlpPolicy):
    """DQN's policy for vectors, with a transition ensemble, and a policy network that it acts by.

    What SB3 calls ``q_net`` is the network of expected free energy, with its sign reversed.

    :param n_members: how many networks the ensemble has, at least 2
    :param transition_arch: hidden layers of each; by default those of ``net_arch``
    :raises ValueError: for a number of members that can never disagree

    The other arguments are those of :class:`sb3_entropic.value_based.policies.MlpPolicy`; the policy network has the layers
    of ``net_arch``, too.
    """

    def __init__(self, *args: Any, n_members: int = 5, transition_arch: list[int] | None = None, **kwargs: Any):
        check_count("n_members", n_members)
        if n_members == 1:
            raise ValueError("n_members=1 leaves no one to disagree with: the nearest choice is 2.")
        self._ensemble = {"n_members": n_members, "transition_arch": transition_arch}
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        # DQN's own first, so that they begin as DQN's do.
        super()._build(lr_schedule)
        self.actor, self.transitions = self.make_actor(), self.make_transitions()
        self.actor_optimizer, self.transition_optimizer = (
            self.optimizer_class(network.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)
            for network in (self.actor, self.transitions)
        )

    def make_actor(self) -> CategoricalActor:
        """The policy network."""
        return CategoricalActor(**self._update_features_extractor(self.net_args, features_extractor=None)).to(self.device)

    def make_transitions(self) -> TransitionEnsemble:
        """The ensemble."""
        arch = self.net_arch if self._ensemble["transition_arch"] is None else self._ensemble["transition_arch"]
        sizes = (self._ensemble["n_members"], arch, self.activation_fn)
        return TransitionEnsemble(self.observation_space, self.action_space, *sizes).to(self.device)

    def _predict(self, obs: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self.actor(obs, deterministic=True)

    def set_training_mode(self, mode: bool) -> None:
        """Of the networks that are trained."""
        super().set_training_mode(mode)
        self.actor.set_training_mode(mode)
        self.transitions.set_training_mode(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._ensemble}
