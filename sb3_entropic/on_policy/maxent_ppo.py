"""Maximum-entropy PPO: entropy inside the return."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch.nn import functional as F

from sb3_entropic.checks import check_at_least_zero, check_finite, check_flag, check_fraction, check_network
from sb3_entropic.errors import HyperparameterWarning
from sb3_entropic.on_policy.entropy_ppo import EntropyPPO
from sb3_entropic.on_policy.loop import Evaluation
from sb3_entropic.on_policy.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_entropic.on_policy.rollouts import (
    EntropyDictRolloutBuffer,
    EntropyOfRollouts,
    EntropyReturns,
    EntropyRolloutBuffer,
    EntropySamples,
    generalised_advantages,
)
from sb3_entropic.operators import is_off
from sb3_entropic.signature import extends, preset
from sb3_entropic.updates import Metrics


@preset(ent_coef=0.01)
@extends(PPO)
class MaxEntPPO(EntropyPPO):
    """PPO that maximises the return and the entropy of all steps to come, rather than of the step at hand.

    Entropy advantage estimation (EAPO, arXiv 2407.18143)::

        h_t = -log pi(a_t|s_t) - entropy_baseline
        A   = GAE(r, V; gamma, gae_lambda) + ent_coef GAE(h, V_H; entropy_gamma, entropy_gae_lambda)

    ``V_H``, the entropy to come, is one more head of the critic. A time limit bootstraps both, a termination neither.

    Every argument of :class:`stable_baselines3.PPO` is accepted, in the same order; see
    https://stable-baselines3.readthedocs.io/en/master/modules/ppo.html. ``ent_coef`` is what a nat is worth, in reward
    units (in those of normalised rewards with ``VecNormalize``): 0.01 by default, and, as everything that
    :class:`EntropyPPO` adds, a schedule or learned. The loss has no entropy bonus besides, so that ``entropy_estimator``
    matters to a learned one alone. ``ent_coef=0`` is PPO, bit for bit with ``engine="sb3"``. The keyword-only arguments that
    :class:`EntropyPPO` has not:

    :param entropy_gamma: discount of the entropy to come, in [0, 1]; ``None`` for ``gamma``. A smaller one plans for the
        return further ahead than for the entropy
    :param entropy_gae_lambda: its lambda, in [0, 1]; ``None`` for ``gae_lambda``
    :param entropy_baseline: constant in nats that is taken from the entropy of every step, or ``"mean"`` for the rollout's
        mean. Discrete entropies are positive and pay for long episodes; a density may be above 1, so that continuous ones
        may pay for short ones. Without their mean they pay for neither
    :param entropy_vf_coef: weight of the error of ``V_H`` beside that of ``V``; ``vf_coef`` weighs both, and
        ``clip_range_vf`` limits ``V`` alone
    :param entropy_critic: ``False`` for a single critic of ``r + ent_coef h``, which takes ``gamma`` and ``gae_lambda``

    Logged besides: ``rollout/entropy`` and ``rollout/entropy_reward`` (means of ``-log pi`` and of ``h``, nats),
    ``rollout/entropy_advantage`` (standard deviation of its part of the advantage, reward units) and
    ``train/entropy_value_loss``.

    ``MaxEntPPO.load`` opens a model saved by ``PPO`` with ``entropy_critic=False``. Give it an ``ent_coef``, too: PPO's is in
    other units, and by default 0.

    :raises ValueError: for a value that is not allowed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    def __init__(
        self,
        *args: Any,
        entropy_gamma: float | None = None,
        entropy_gae_lambda: float | None = None,
        entropy_baseline: float | str = 0.0,
        entropy_vf_coef: float = 0.5,
        entropy_critic: bool = True,
        **kwargs: Any,
    ):
        self.entropy_gamma = entropy_gamma
        self.entropy_gae_lambda = entropy_gae_lambda
        self.entropy_baseline = entropy_baseline
        self.entropy_vf_coef = entropy_vf_coef
        self.entropy_critic = entropy_critic
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        if self.entropy_critic:
            self._choose_rollout_buffer()
        super()._setup_model()
        if self.entropy_critic:
            try:
                check_network(self, "entropy_net")
            except ValueError as error:
                raise ValueError(f"{error} Or, as for a model that PPO has saved, give entropy_critic=False.") from None

    def _maybe_recommend_cpu(self, mlp_class_name: str = MlpPolicy.__name__) -> None:
        super()._maybe_recommend_cpu(mlp_class_name)

    def check_arguments(self) -> None:
        """Those of the family, and of the critic of entropies."""
        super().check_arguments()
        for name in ("entropy_gamma", "entropy_gae_lambda"):
            if getattr(self, name) is not None:
                check_fraction(name, getattr(self, name))
        if self.entropy_baseline != "mean":
            check_finite("entropy_baseline", self.entropy_baseline, or_text="mean")
        check_at_least_zero("entropy_vf_coef", self.entropy_vf_coef)
        check_flag("entropy_critic", self.entropy_critic)
        if not self.entropy_critic:
            ignored = {"entropy_gamma": None, "entropy_gae_lambda": None, "entropy_vf_coef": 0.5}
            for name, default in ignored.items():
                if getattr(self, name) != default:
                    warnings.warn(
                        f"{name}={getattr(self, name)} is of the critic that entropy_critic=False leaves out: it has no use.",
                        HyperparameterWarning,
                        stacklevel=2,
                    )

    def _choose_rollout_buffer(self) -> None:
        chosen, is_dict = self.rollout_buffer_class, isinstance(self.observation_space, spaces.Dict)
        if chosen in (None, RolloutBuffer, DictRolloutBuffer):
            self.rollout_buffer_class = EntropyDictRolloutBuffer if is_dict else EntropyRolloutBuffer
        elif not issubclass(chosen, EntropyReturns):
            raise ValueError(
                f"rollout_buffer_class={chosen.__name__} has no place for the returns of the second critic: let it inherit "
                "from EntropyReturns too, or set entropy_critic=False."
            )

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        given = callback if isinstance(callback, list) else [callback]
        users = [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in given]
        return super()._init_callback([EntropyOfRollouts(), *users], progress_bar)

    def bonus_weight(self) -> float:
        """The loss has no bonus: the advantages have it."""
        return 0.0

    def entropy_bootstrap(self, observations: PyTorchObs) -> float:
        """The discounted entropy to come after an episode that was truncated in this state."""
        if not self._has_two_critics():
            return 0.0
        return self._entropy_discount() * self._entropy_values(observations).item()

    def add_entropy(self, bootstraps: np.ndarray) -> None:
        """Add what the entropy of a complete rollout is worth to its advantages.

        :param bootstraps: of truncated episodes, at their last steps, nats, ``(n_steps, n_envs)``
        """
        if is_off(self.ent_coef):
            return
        # As SB3 does a moment later: what is added here is to be what is logged of the update.
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        buffer, dones, ent_coef = self.rollout_buffer, self._last_episode_starts, self.current_ent_coef()
        entropies = -buffer.log_probs
        self.logger.record("rollout/entropy", entropies.mean().item())
        entropies -= entropies.mean() if self.entropy_baseline == "mean" else self.entropy_baseline
        self.logger.record("rollout/entropy_reward", entropies.mean().item())
        last_observations = obs_as_tensor(self._last_obs, self.device)
        if not self.entropy_critic:
            buffer.rewards += ent_coef * entropies
            with th.no_grad():
                last_values = self.policy.predict_values(last_observations)
            buffer.compute_returns_and_advantage(last_values, dones)
            return
        values = self._entropy_values_of_rollout()
        last_values = self._entropy_values(last_observations)
        gae_lambda = self.gae_lambda if self.entropy_gae_lambda is None else self.entropy_gae_lambda
        advantages = generalised_advantages(
            entropies + bootstraps, values, last_values, buffer.episode_starts, dones, self._entropy_discount(), gae_lambda
        )
        buffer.entropy_returns[:] = advantages + values
        buffer.advantages += ent_coef * advantages
        self.logger.record("rollout/entropy_advantage", ent_coef * advantages.std().item())

    def _entropy_discount(self) -> float:
        return self.gamma if self.entropy_gamma is None else self.entropy_gamma

    def _entropy_values(self, observations: PyTorchObs) -> np.ndarray:
        with th.no_grad():
            return self.policy.predict_entropy_values(observations).cpu().numpy().flatten()

    def _entropy_values_of_rollout(self) -> np.ndarray:
        """In the minibatches of an update, since all of the rollout's images may be too many at once."""
        buffer, values = self.rollout_buffer, []
        steps, envs = np.indices(buffer.rewards.shape).reshape(2, -1)
        for begin in range(0, len(steps), self.batch_size):
            where = (steps[begin : begin + self.batch_size], envs[begin : begin + self.batch_size])
            if isinstance(buffer.observations, dict):
                observations = {name: array[where] for name, array in buffer.observations.items()}
            else:
                observations = buffer.observations[where]
            values.append(self._entropy_values(obs_as_tensor(observations, self.device)))
        return np.concatenate(values).reshape(buffer.rewards.shape)

    @property
    def samples(self) -> type:
        """With the returns of the second critic, if it is trained."""
        return EntropySamples if self._has_two_critics() else super().samples

    def _has_two_critics(self) -> bool:
        return self.entropy_critic and not is_off(self.ent_coef)

    def evaluate_actions(self, networks: ActorCriticPolicy, observations: PyTorchObs, actions: th.Tensor) -> Evaluation:
        """With the entropy to come, if there is a critic of it."""
        if not self._has_two_critics():
            return super().evaluate_actions(networks, observations, actions)
        if type(networks).evaluate_actions is not ActorCriticPolicy.evaluate_actions:
            # A user's own may do anything.
            values, log_prob, entropy = networks.evaluate_actions(observations, actions)
            entropy_values = networks.predict_entropy_values(observations)
        else:
            values, log_prob, entropy, entropy_values = networks.evaluate_all(observations, actions)
        return Evaluation(values.flatten(), log_prob, entropy, entropy_values.flatten())

    def value_loss(self, evaluation: Evaluation, batch: Any) -> tuple[th.Tensor, Metrics]:
        """Both critics' squared errors."""
        loss, metrics = super().value_loss(evaluation, batch)
        if evaluation.entropy_values is None:
            return loss, metrics
        entropy_loss = F.mse_loss(batch.entropy_returns, evaluation.entropy_values)
        return loss + self.entropy_vf_coef * entropy_loss, {**metrics, "entropy_value_loss": entropy_loss}
