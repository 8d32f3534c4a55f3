"""The training loop that every off-policy family shares."""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_entropic.engine import lockstep
from sb3_entropic.engine.options import Engine, as_engine
from sb3_entropic.engine.runner import Streams
from sb3_entropic.engine.step import RecordingError
from sb3_entropic.engine.support import why_not
from sb3_entropic.updates import Metrics, MetricsMean, Update, batch_elementwise_steps, move_towards


class OffPolicyLoop:
    """Walks an algorithm's list of updates; to be placed before the SB3 parent in the bases.

    A family says what its networks look like to a loss (:meth:`make_networks`), which noise a gradient step needs and
    what follows the step; an algorithm declares its :meth:`updates`. Everything else is the SB3 parent's.

    :param engine: ``"auto"``, ``"fast"``, ``"sb3"`` or an :class:`sb3_entropic.Engine`, which explains them
    """

    def __init__(self, *args: Any, engine: str | Engine = "auto", **kwargs: Any):
        self.engine = as_engine(engine)
        self.engine_used = ""
        """What ran the last ``learn``: ``"sb3"``, or ``"fast"`` and whether it was compiled; empty before it."""
        super().__init__(*args, **kwargs)

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

    def coefficients(self) -> dict[str, float]:
        """Numbers among the algorithm's attributes that its losses read and that may change, or differ between seeds."""
        return {"gamma": self.gamma}

    def target_networks(self) -> list[tuple[th.nn.Module, th.nn.Module]]:
        """Networks that follow others after gradient steps, each with the one it follows."""
        return []

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor | None:
        """What :meth:`act` needs of randomness, drawn as SB3 draws it."""
        return None

    def act(self, networks: Any, observations: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """Actions of the policy while learning, ``(n_envs, ...)``, as the replay buffer stores them; pure, as a loss is."""
        raise NotImplementedError

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
        """Polyak averaging of the target networks, every ``target_update_interval`` gradient steps."""
        if gradient_step % self.target_update_interval == 0:
            for target, source in self.target_networks():
                move_towards(list(target.parameters()), list(source.parameters()), self.tau)

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
        """As in SB3; runs are logged to TensorBoard under the algorithm's own name.

        :raises ValueError: if ``engine="fast"`` cannot run this model; says why
        """
        name = tb_log_name or type(self).__name__
        reason = "as asked for" if self.engine.kind == "sb3" else why_not(self)
        if reason is None and self.engine.kind == "auto":
            reason = lockstep.why_not_alone(self, total_timesteps, reset_num_timesteps)
        if reason is None:
            arguments = (total_timesteps, log_interval, [name], reset_num_timesteps, progress_bar, self.engine)
            try:
                lockstep.learn([self], [callback], [Streams(own=False)], *arguments)
                return self
            except RecordingError as error:
                reason = str(error)
        lockstep.leave_to_sb3(self, reason)
        self.engine_used = "sb3"
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def get_parameters(self) -> dict[str, dict]:
        """As in SB3; what is saved in the middle of a stack's training holds this model's parameters alone."""
        return th.utils._pytree.tree_map_only(th.Tensor, _without_the_rest, super().get_parameters())


def _without_the_rest(tensor: th.Tensor) -> th.Tensor:
    """A copy, if the tensor is a part of a larger storage."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
