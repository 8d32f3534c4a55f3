"""The training loop that every off-policy family shares."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import polyak_update

from sb3_entropic.engine.replay_lockstep import ReplayLockstep, prepare_logger, record_metrics
from sb3_entropic.learner import Learner
from sb3_entropic.updates import Metrics, MetricsMean, Update, batch_elementwise_steps, move_towards


class OffPolicyLoop(Learner):
    """Walks an algorithm's list of updates; to be placed before the SB3 parent in the bases.

    A family says what its networks look like to a loss (:meth:`make_networks`), which noise a gradient step needs and
    what follows the step; an algorithm declares its :meth:`updates`. Everything else is the SB3 parent's.
    """

    lockstep_class = ReplayLockstep

    def set_logger(self, logger: Logger) -> None:
        """As in SB3, at any time."""
        super().set_logger(logger)
        prepare_logger(self)

    def dump_logs(self) -> None:
        """As in SB3, with what the fast engine has kept for it."""
        record_metrics(self)
        super().dump_logs()

    def updates(self) -> list[Update]:
        """The algorithm as an ordered list of losses and their optimisers."""
        raise NotImplementedError

    def make_networks(self) -> Any:
        """The networks as the losses of one gradient step see them."""
        raise NotImplementedError

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> Any:
        """What the losses of one gradient step need of randomness, in SB3's order.

        :param batch: of the shapes that are needed
        :param generator: to draw from; ``None`` for torch's global one
        """
        return None

    def gradient_steps_between(self, done: int, total_timesteps: int) -> int:
        """How many gradient steps there are from so many environment steps to so many."""
        collected = self.train_freq.frequency * self.n_envs
        each = self.gradient_steps if self.gradient_steps >= 0 else collected
        return max(total_timesteps - max(done, self.learning_starts), 0) // collected * each

    def target_networks(self) -> list[tuple[th.nn.Module, th.nn.Module]]:
        """Networks that follow others after gradient steps, each with the one it follows."""
        return []

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor | None:
        """What :meth:`act` needs of randomness, drawn as SB3 draws it.

        :param observations: of all environments; of dictionaries one entry
        :param generator: to draw from; ``None`` for torch's global one
        """
        return None

    def act(self, networks: Any, observations: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """Actions of the policy while learning, ``(n_envs, ...)``, as the replay buffer stores them; pure, as a loss is."""
        raise NotImplementedError

    def explore_anew(self, generator: th.Generator) -> None:
        """Draw what state-dependent exploration holds on to for several steps; only called with ``use_sde``."""

    def explores_at_random(self) -> bool:
        """Draw whether the next action is any of the action space rather than the policy's."""
        return False

    def discounts_of(self, batch: Any) -> Any:
        """The discount of the bootstrap value: ``gamma``, or of n-step returns each transition's own, ``(batch, 1)``."""
        return batch.discounts if batch.discounts is not None else self.gamma

    def before_updates(self, networks: Any, batch: Any, noise: Any) -> Metrics:
        """What has to be computed, or is logged, before the first update of a gradient step."""
        return {}

    def after_gradient_step(self, gradient_step: int) -> None:
        """Polyak averaging of the target networks, every ``target_update_interval`` gradient steps of a ``train`` call.

        Running statistics of batch normalisation are copied. As in SB3, whose actor-critics count anew in every call: with one
        gradient step a call the interval says nothing.
        """
        if gradient_step % self.target_update_interval == 0:
            for target, source in self.target_networks():
                move_towards(list(target.parameters()), list(source.parameters()), self.tau)
                polyak_update(_running_statistics(source), _running_statistics(target), 1.0)

    def after_training(self, networks: Any, batch: Any) -> Metrics:
        """What is logged once a ``train`` call, of the networks after it on its last batch.

        :param networks: made anew, so that nothing of what the losses have left on theirs is there
        :param batch: the last
        """
        return {}

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take ``gradient_steps`` steps on every entry of :meth:`updates`, in order."""
        self.policy.set_training_mode(True)
        updates = self.updates()
        self._update_learning_rate([update.optimizer for update in updates])
        for update in updates:
            batch_elementwise_steps(update.optimizer)
        means, last = MetricsMean(), {}

        for gradient_step in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            noise = self.draw_noise(batch)
            networks = self.make_networks()
            metrics = self.before_updates(networks, batch, noise)
            for update in updates:
                metrics.update(update.step(networks, batch, noise))
            means.add(metrics)
            self.after_gradient_step(gradient_step)

        if gradient_steps > 0 and type(self).after_training is not OffPolicyLoop.after_training:
            # What is logged must not move running statistics, nor draw the masks of dropout.
            self.policy.set_training_mode(False)
            last = self.after_training(self.make_networks(), batch)
            self.policy.set_training_mode(True)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in {**means.fetch(), **{name: value.item() for name, value in last.items()}}.items():
            self.logger.record(f"train/{name}", value)


def _running_statistics(network: th.nn.Module) -> list[th.Tensor]:
    # SB3 looks through the whole state_dict, once a model; here that would be in every gradient step.
    return [buffer for name, buffer in network.named_buffers() if "running_" in name]
