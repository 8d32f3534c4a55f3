"""The losses of the value-based family."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs
from torch.nn import functional as F

from sb3_entropic.checks import check_actions, check_choice, check_network, check_scale, check_scheduled
from sb3_entropic.off_policy import OffPolicyLoop
from sb3_entropic.operators import action_gap, policy_entropy, sample_boltzmann
from sb3_entropic.temperature import Scheduled, as_scheduled, at_progress
from sb3_entropic.updates import Metrics, Update
from sb3_entropic.value_based.networks import Fractions, ValueNetworks

EXPLORATIONS = ("epsilon", "boltzmann")


class ValueBasedLoop(OffPolicyLoop):
    """DQN's loss on the shared loop; to be placed before the SB3 parent in the bases.

    An algorithm says what its :meth:`td_target` is, or appends to :meth:`updates`.

    :param temperature: of the policy ``softmax(Q / temperature)``, in reward units, > 0, -> 0 for a greedy one; or a function
        of the remaining progress (1 to 0) that stays above 0. Scale it with the rewards
    :param exploration: ``"epsilon"`` acts as DQN does; ``"boltzmann"`` samples from ``softmax(Q / temperature)`` after
        the warm-up and ignores the exploration rate. ``predict`` with ``deterministic=False`` does the same;
        ``deterministic=True`` is greedy either way.
    """

    def __init__(self, *args: Any, temperature: Scheduled, exploration: str, **kwargs: Any):
        self.temperature = temperature
        self.exploration = exploration
        self.check_arguments()
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        check_actions(self.action_space)

    def _create_aliases(self) -> None:
        check_network(self, "q_net")
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Those of the family."""
        super().check_arguments()
        check_choice("exploration", self.exploration, EXPLORATIONS)
        self.temperature = as_scheduled("temperature", self.temperature)
        check_scheduled("temperature", self.temperature, check_scale)

    def updates(self) -> list[Update]:
        """One loss; the gradient's norm is clipped as in the SB3 parent."""
        return [Update("", self.policy.optimizer, self.value_loss, self.max_grad_norm)]

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See the family's loop; the batch size is DQN's where none is given."""
        super().train(gradient_steps, batch_size)

    def make_networks(self) -> ValueNetworks:
        """SB3's modules and the temperature for one gradient step."""
        return ValueNetworks(self.q_net, self.q_net_target, self.current_temperature())

    def coefficients(self) -> dict[str, float]:
        """The discount and the temperature."""
        return {**super().coefficients(), "temperature": self.current_temperature()}

    def current_temperature(self) -> float:
        """The temperature at this point of training, in reward units."""
        return at_progress(self.temperature, self._current_progress_remaining)

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> Fractions:
        """Nothing to draw."""
        return Fractions()

    def value_loss(self, networks: ValueNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """The distance of ``Q(s, a)`` from its target."""
        with th.no_grad():
            target, metrics = self.td_target(networks, batch, noise)
        quantiles = networks.quantiles(batch.observations, noise.current)
        return self.regression_loss(at_actions(quantiles, batch.actions), target, noise), metrics

    def td_target(self, networks: ValueNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """What ``Q(s, a)`` is drawn to, ``(batch, n_quantiles)`` (under ``no_grad``), and what to log of it."""
        raise NotImplementedError

    def regression_loss(self, current: th.Tensor, target: th.Tensor, noise: Fractions) -> th.Tensor:
        """Huber loss of ``(batch, n_quantiles)`` values: here a single one."""
        return F.smooth_l1_loss(current, target)

    def acting_values(self, networks: ValueNetworks, observations: PyTorchObs) -> th.Tensor:
        """The values the policy is made of, ``(batch, n_actions)``: here the online network's."""
        return networks.values(observations)

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor | None:
        """Of the Gumbel-max trick: uniform, one for each action."""
        if self.exploration == "epsilon":
            return None
        shape, like = (len(observations), int(self.action_space.n)), next(self.policy.parameters())
        return th.rand(shape, generator=generator, dtype=like.dtype, device=observations.device)

    def act(self, networks: ValueNetworks, observations: PyTorchObs, noise: th.Tensor | None) -> th.Tensor:
        """Greedy, or for given noise sampled from the Boltzmann policy; ``(n_envs,)``."""
        values = self.acting_values(networks, observations)
        return values.argmax(dim=1) if noise is None else sample_boltzmann(values, networks.temperature, noise)

    def explores_at_random(self) -> bool:
        """With DQN's exploration rate."""
        return self.exploration == "epsilon" and np.random.rand() < self.exploration_rate

    def after_training(self, networks: ValueNetworks, batch: Any) -> Metrics:
        """Mean entropy (nats), action gap (reward units) and temperature of the policy on the last batch."""
        with th.no_grad():
            values = self.acting_values(networks, batch.observations)
            temperature = th.as_tensor(networks.temperature)
            entropy = policy_entropy(values, temperature).mean()
        return {"policy_entropy": entropy, "action_gap": action_gap(values).mean(), "temperature": temperature}

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3; with ``exploration="boltzmann"`` a stochastic action is one of ``softmax(Q / temperature)``."""
        if deterministic or self.exploration == "epsilon":
            return super().predict(observation, state, episode_start, deterministic)
        if isinstance(observation, tuple):
            raise ValueError("predict takes an observation, not (observation, info): write `observation, _ = env.reset()`.")
        self.policy.set_training_mode(False)
        observations, vectorised = self.policy.obs_to_tensor(observation)
        one_of_them = next(iter(observations.values())) if isinstance(observations, dict) else observations
        with th.no_grad():
            actions = self.act(self.make_networks(), observations, self.acting_noise(one_of_them)).cpu().numpy()
        return (actions if vectorised else actions.squeeze(axis=0)), state


def at_actions(quantiles: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """The quantiles of the replayed actions.

    :param quantiles: ``(batch, n_quantiles, n_actions)``
    :param actions: indices, ``(batch, 1)``
    :return: ``(batch, n_quantiles)``
    """
    index = actions.long().unsqueeze(-1).expand(-1, quantiles.shape[1], 1)
    return quantiles.gather(dim=2, index=index).squeeze(dim=2)
