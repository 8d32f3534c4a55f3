"""The training loop that every off-policy family shares."""

from __future__ import annotations

from typing import Any

from sb3_entropic.updates import Metrics, MetricsMean, Update, batch_elementwise_steps


class OffPolicyLoop:
    """Walks an algorithm's list of updates; to be placed before the SB3 parent in the bases.

    A family says what its networks look like to a loss (:meth:`make_networks`), which noise a gradient step needs and
    what follows the step; an algorithm declares its :meth:`updates`. Everything else is the SB3 parent's.
    """

    def updates(self) -> list[Update]:
        """The algorithm as an ordered list of losses and their optimisers."""
        raise NotImplementedError

    def make_networks(self) -> Any:
        """The networks as the losses of one gradient step see them."""
        raise NotImplementedError

    def draw_noise(self, batch: Any) -> Any:
        """What the losses of one gradient step need of randomness, from the global generator in SB3's order."""
        return None

    def discounts_of(self, batch: Any) -> Any:
        """The discount of the bootstrap value: ``gamma``, or of n-step returns each transition's own, ``(batch, 1)``."""
        return batch.discounts if batch.discounts is not None else self.gamma

    def before_updates(self, networks: Any, batch: Any, noise: Any) -> Metrics:
        """What has to be computed, or is logged, before the first update of a gradient step."""
        return {}

    def after_gradient_step(self, gradient_step: int) -> None:
        """What follows the updates of a gradient step, such as moving target networks."""

    def after_training(self, networks: Any, batch: Any) -> Metrics:
        """What is logged once a ``train`` call, of its last gradient step."""
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
            if gradient_step == gradient_steps - 1:
                last = self.after_training(networks, batch)

        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in {**means.fetch(), **{name: value.item() for name, value in last.items()}}.items():
            self.logger.record(f"train/{name}", value)

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """As in SB3; runs are logged to TensorBoard under the algorithm's own name."""
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name or type(self).__name__, reset_num_timesteps, progress_bar
        )
