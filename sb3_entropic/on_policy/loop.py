"""The training loop and the loss of the on-policy family."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch.nn import functional as F

from sb3_entropic.engine.rollout_lockstep import RolloutLockstep
from sb3_entropic.learner import Learner
from sb3_entropic.operators import clipped_surrogate, kl_to_new
from sb3_entropic.state_dependent import explore_anew, matrices_of
from sb3_entropic.updates import Metrics, MetricsMean, Update, batch_elementwise_steps


class Evaluation(NamedTuple):
    """What the policy says of a minibatch, each ``(batch,)``."""

    values: th.Tensor
    log_prob: th.Tensor
    entropy: th.Tensor | None
    """Nats; ``None`` where SB3's distribution has no closed form of it."""
    entropy_values: th.Tensor | None = None
    """Of a critic of the entropy to come, nats."""


class OnPolicyLoop(Learner):
    """PPO's loss, term by term, and SB3's passes over a rollout; to be placed before the SB3 parent in the bases.

    An algorithm says what its loss adds to the clipped surrogate (:meth:`regularisation`) and how its critics err
    (:meth:`value_loss`), and hears what an update came to (:meth:`after_training`). Everything else is the SB3 parent's.
    """

    lockstep_class = RolloutLockstep

    @property
    def samples(self) -> type:
        """What a minibatch of the rollout buffer is."""
        return RolloutBufferSamples

    def gradient_steps_between(self, done: int, total_timesteps: int) -> int:
        """How many gradient steps there are from so many environment steps to so many, if no update stops early."""
        collected = self.n_steps * self.n_envs
        return -(-max(total_timesteps - done, 0) // collected) * self.n_epochs * -(-collected // self.batch_size)

    def coefficients(self) -> dict[str, float]:
        """The discount, and how far ratio and value may move."""
        limits = {"clip_range": self.current_clip_range()}
        if self.clip_range_vf is not None:
            limits["clip_range_vf"] = self.current_clip_range_vf()
        return {**super().coefficients(), **limits}

    def make_networks(self) -> ActorCriticPolicy:
        """SB3's own policy."""
        return self.policy

    def before_updates(self, networks: ActorCriticPolicy, batch: Any, noise: Any) -> Metrics:
        """Nothing is needed before the one update."""
        return {}

    def target_networks(self) -> list[tuple[th.nn.Module, th.nn.Module]]:
        """None follows another."""
        return []

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor:
        """What :meth:`act` needs of randomness, as torch's distributions draw it; of gSDE the matrices that are held on to."""
        if self.use_sde:
            return matrices_of(self.policy, len(observations))
        like = next(self.policy.parameters())
        if isinstance(self.action_space, spaces.Discrete):
            shape = (len(observations), int(self.action_space.n))
            return th.empty(shape, dtype=like.dtype, device=like.device).exponential_(generator=generator)
        shape = (len(observations), get_action_dim(self.action_space))
        return th.empty(shape, dtype=like.dtype, device=like.device).normal_(generator=generator)

    def act(
        self, networks: ActorCriticPolicy, observations: th.Tensor, noise: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Actions of a categorical or a Gaussian policy, their states' values and their log-densities.

        Pure, as a loss is, but for gSDE, which leaves the matrices it explores with in the policy.
        """
        distribution = networks.get_distribution(observations)
        if isinstance(self.action_space, spaces.Discrete):
            actions = (distribution.distribution.probs / noise).argmax(dim=-1)
        elif self.use_sde:
            distribution.exploration_mat, distribution.exploration_matrices = noise[0], noise
            actions = distribution.sample()
        else:
            actions = distribution.distribution.mean + noise * distribution.distribution.stddev
        log_prob = distribution.log_prob(actions)
        return actions, networks.predict_values(observations).flatten(), log_prob

    def explore_anew(self, generator: th.Generator) -> None:
        """Draw the matrices of gSDE."""
        explore_anew(self.policy, self.n_envs, generator)

    def updates(self) -> list[Update]:
        """One loss of all networks; the gradient's norm is clipped as in the SB3 parent."""
        return [Update("", self.policy.optimizer, self.clipped_loss, self.max_grad_norm)]

    def the_update(self) -> Update:
        """The only one of :meth:`updates`.

        :raises ValueError: if there are others
        """
        updates = self.updates()
        if len(updates) != 1:
            raise ValueError(
                f"updates() of {type(self).__name__} has {len(updates)} entries, and of an on-policy algorithm there is one: "
                "add a further loss to what clipped_loss returns, and a further network to the policy before its optimiser is "
                "made."
            )
        return updates[0]

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> Any:
        """What the loss of one gradient step needs of randomness.

        :param batch: of the shapes that are needed
        :param generator: to draw from; ``None`` for torch's global one
        """
        return None

    def current_clip_range(self) -> float:
        """How far the probability ratio may move from 1 at this point of training."""
        return self._now(self.clip_range)

    def current_clip_range_vf(self) -> float:
        """How far a value may move from that of the rollout at this point of training."""
        return self._now(self.clip_range_vf)

    def _now(self, schedule: Any) -> Any:
        # While the fast engine records, a schedule's value is an input.
        return schedule if isinstance(schedule, th.Tensor) else schedule(self._current_progress_remaining)

    def evaluate(self, networks: ActorCriticPolicy, batch: Any, noise: Any) -> Evaluation:
        """What the policy says of the rollout's states and actions."""
        actions = batch.actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else batch.actions
        return self.evaluate_actions(networks, batch.observations, actions)

    def evaluate_actions(self, networks: ActorCriticPolicy, observations: PyTorchObs, actions: th.Tensor) -> Evaluation:
        """One forward pass."""
        values, log_prob, entropy = networks.evaluate_actions(observations, actions)
        return Evaluation(values.flatten(), log_prob, entropy)

    def clipped_loss(self, networks: ActorCriticPolicy, batch: Any, noise: Any) -> tuple[th.Tensor, Metrics]:
        """The negative clipped surrogate, what regularises it, and the critics' error (arXiv 1707.06347, eq. 9)."""
        evaluation = self.evaluate(networks, batch, noise)
        log_ratio = evaluation.log_prob - batch.old_log_prob
        ratio, clip_range = log_ratio.exp(), self.current_clip_range()
        policy_loss = -clipped_surrogate(ratio, self.normalised(batch.advantages), clip_range).mean()
        regularisation, regularisation_metrics = self.regularisation(evaluation, log_ratio)
        value_loss, value_metrics = self.value_loss(evaluation, batch)
        metrics = {
            "policy_gradient_loss": policy_loss,
            "approx_kl": kl_to_new(log_ratio.detach()).mean(),
            "clip_fraction": ((ratio.detach() - 1).abs() > clip_range).float().mean(),
        }
        loss = policy_loss + regularisation + self.vf_coef * value_loss
        return loss, {**metrics, **regularisation_metrics, **value_metrics}

    def normalised(self, advantages: th.Tensor) -> th.Tensor:
        """Advantages of mean 0 and standard deviation 1 over the minibatch, if they are to be."""
        if self.normalize_advantage and len(advantages) > 1:
            return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def regularisation(self, evaluation: Evaluation, log_ratio: th.Tensor) -> tuple[th.Tensor, Metrics]:
        """What is added to the loss of the policy, and what to log of it; nothing, unless an algorithm says so."""
        return log_ratio.new_zeros(()), {}

    def value_loss(self, evaluation: Evaluation, batch: Any) -> tuple[th.Tensor, Metrics]:
        """The critic's squared error, before its weight ``vf_coef``."""
        values = evaluation.values
        if self.clip_range_vf is not None:
            limit = self.current_clip_range_vf()
            values = batch.old_values + th.clamp(values - batch.old_values, -limit, limit)
        loss = F.mse_loss(batch.returns, values)
        return loss, {"value_loss": loss}

    def after_training(self, metrics: dict[str, float], stopped_early: bool) -> dict[str, float]:
        """Called once a ``train`` call with what it logs; returns what to log besides.

        :param stopped_early: whether it ended where the policy had moved too far
        """
        return {}

    def train(self) -> None:
        """Take ``n_epochs`` passes over the rollout, fewer if the policy has moved further than ``target_kl`` allows."""
        self.policy.set_training_mode(True)
        update = self.the_update()
        self._update_learning_rate(update.optimizer)
        batch_elementwise_steps(update.optimizer)
        means, epoch_began, stops = MetricsMean(), 0, False

        for epoch in range(self.n_epochs):
            epoch_began = len(means)
            for batch in self.rollout_buffer.get(self.batch_size):
                loss, metrics = update.evaluate(self.policy, batch, self.draw_noise(batch))
                means.add({**metrics, "loss": loss})
                if stops := self.target_kl is not None and self.has_moved_too_far(metrics["approx_kl"].item(), epoch):
                    break
                update.descend(loss)
            self._n_updates += 1
            if stops:
                break

        # As in SB3: of the last pass, and of the last gradient step.
        of_epoch = means.fetch(since=epoch_began)
        last = {"approx_kl": of_epoch["approx_kl"]} if "approx_kl" in of_epoch else {}
        self.finish_update({**means.fetch(), **last, "loss": means.fetch(since=len(means) - 1)["loss"]}, stops)

    def has_moved_too_far(self, divergence: float, epoch: int) -> bool:
        """Whether an update is to stop, since the policy has moved 1.5 ``target_kl`` from the one that collected.

        :param divergence: of a minibatch, nats
        :param epoch: for the message
        """
        if not divergence > 1.5 * self.target_kl:
            return False
        if self.verbose >= 1:
            print(f"Early stopping at step {epoch} due to reaching max kl: {divergence:.2f}")
        return True

    def finish_update(self, metrics: dict[str, float], stopped_early: bool) -> None:
        """Let what is learned about updates follow this one, and log it.

        :param metrics: means over the gradient steps, but of ``approx_kl`` the last pass's and of ``loss`` the last step's
        :param stopped_early: whether it ended where the policy had moved too far
        """
        values, returns = self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten()
        logged = {
            **metrics,
            **self.after_training(metrics, stopped_early),
            "explained_variance": explained_variance(values, returns),
        }
        if hasattr(self.policy, "log_std"):
            logged["std"] = self.policy.log_std.exp().mean().item()
        logged["clip_range"] = self.current_clip_range()
        if self.clip_range_vf is not None:
            logged["clip_range_vf"] = self.current_clip_range_vf()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """As in SB3; runs are logged to TensorBoard under the algorithm's own name.

        :raises ValueError: if ``engine="fast"`` cannot run this model; says why
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
