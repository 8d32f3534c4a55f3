"""Soft Q-learning for continuous actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.actor_critic.sampler_policies import CnnPolicy, MlpPolicy, MultiInputPolicy, Sampler, over_pairs
from sb3_entropic.checks import check_choice, check_count, check_flag, check_network, check_scale, check_scheduled
from sb3_entropic.densities import squashed_gaussian_log_prob, unsquash
from sb3_entropic.operators import mellowmax
from sb3_entropic.signature import extends, preset
from sb3_entropic.stein import median_bandwidth, stein_direction
from sb3_entropic.temperature import current_temperature
from sb3_entropic.updates import Metrics

PROPOSALS = ("uniform", "sampler")
ValuesOfActions = Callable[[th.Tensor], th.Tensor]
"""From actions ``(batch, n, action_dim)`` to values ``(batch, n)``."""
MIN_STD = 0.1
"""Of the proposal's Gaussian: a sampler that has collapsed proposes its surroundings too."""


class SoftQNoise(NamedTuple):
    """The draws of one gradient step."""

    uniform: th.Tensor
    """On [0, 1), for actions at ``s'``: ``(batch, n, action_dim)``."""
    gaussian: th.Tensor | None
    """Standard normal, for the other half of them; ``None`` with ``proposal="uniform"``."""
    next_particles: th.Tensor | None
    """Standard normal, for the particles at ``s'`` that this half is centred on."""
    fixed: th.Tensor
    """Standard normal, for the particles at ``s`` that say where to go: ``(batch, n_particles / 2, action_dim)``."""
    moved: th.Tensor
    """The same for those that move."""


class SoftQNetworks:
    """The sampler and the critics, seen for one gradient step.

    :param model: an algorithm with ``actor``, ``critic`` and ``critic_target``
    """

    def __init__(self, model: Any):
        self.temperature = current_temperature(model)
        """Reward units, shape ``()``."""
        self._actor: Sampler = model.actor
        self._critic: ContinuousCritic = model.critic
        self._critic_target: ContinuousCritic = model.critic_target

    def unsquashed(self, observations: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """Actions of the sampler before the squash, shape of ``noise``."""
        actor = self._actor
        return actor.unsquashed(actor.extract_features(observations, actor.features_extractor), noise)

    def values(self, observations: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """``Q_i(s, a)`` of every online critic, each ``(batch, 1)``."""
        return self._critic(observations, actions)

    def smallest_values(self, observations: PyTorchObs) -> ValuesOfActions:
        """``min_i Q_i(s, .)`` of the online critics."""
        return _smallest(self._critic, observations)

    def smallest_target_values(self, observations: PyTorchObs) -> ValuesOfActions:
        """The same of the target critics."""
        return _smallest(self._critic_target, observations)


@preset(ent_coef=0.1)
@extends(SAC)
class SoftQ(ActorCriticLoop, SAC):
    """Soft Q-learning with an amortised Stein sampler (arXiv 1702.08165).

    ::

        y    = r + gamma (1 - done) V(s'),    V(s) = T log mean_k exp(min_i Q_i(s, a_k) / T) / q(a_k),    a_k ~ q
        f(s, xi) moves in the direction in which its actions become samples of exp(min_i Q_i(s, .) / T)

    with the target critics in ``V`` and ``T`` the temperature ``ent_coef``. The policy ``tanh(f(s, xi))`` has no density
    and so can have any number of modes; ``predict(deterministic=True)`` is its action at ``xi = 0``, one of them or between.

    Every argument of :class:`stable_baselines3.SAC` is accepted but gSDE's, in the same order; see
    https://stable-baselines3.readthedocs.io/en/master/modules/sac.html. ``ent_coef``, in reward units, is a number
    or a function of the remaining progress, and not learned: a sampler without a density has no entropy that could be held
    at a target, and ``target_entropy`` is not read. The paper's reward scale is its inverse, its single critic is
    ``policy_kwargs={"n_critics": 1}``, its hard copies of the target are ``tau=1`` with ``train_freq``,
    ``gradient_steps`` and ``target_update_interval`` of a thousand each. The keyword-only arguments are ours:

    :param n_value_samples: actions that ``V(s')`` is estimated from, even, >= 2. By Jensen's inequality the estimate is too
        low, the more so the narrower ``exp(Q / T)`` is beside the proposal; it grows with their number. 32 serve one or two
        dimensions of action, and no number serves many with ``proposal="uniform"``.
    :param proposal: the distribution ``q`` they are drawn from: ``"uniform"``; or ``"sampler"``, half of them uniform and
        half from a squashed Gaussian with the mean and the deviation of the sampler's actions (before the squash), whose
        density is known where the sampler's is not
    :param n_particles: actions of the sampler in a Stein step, even, >= 4: half of them stay and say where to go, half move
    :param squash_correction: add ``sum log(1 - a^2)`` to ``Q / T`` in the sampler's target, as the paper's code does and its
        equations do not: a barrier that keeps actions off the limits. With it the sampler follows
        ``exp(Q / T) prod(1 - a^2)``, while ``V`` stays the value of ``exp(Q / T)``

    With ``n_steps > 1`` the target has the soft value of the bootstrap state; the entropies of the steps between are dropped.

    Logged besides SAC's: ``train/soft_value`` (mean of ``V(s')``, reward units), ``train/stein_norm`` (mean length of the
    direction, falls as the sampler arrives) and ``train/kernel_bandwidth`` (mean, squared units of action).

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
        n_value_samples: int = 32,
        proposal: str = "uniform",
        n_particles: int = 16,
        squash_correction: bool = True,
        **kwargs: Any,
    ):
        self.n_value_samples = n_value_samples
        self.proposal = proposal
        self.n_particles = n_particles
        self.squash_correction = squash_correction
        super().__init__(*args, **kwargs)

    @staticmethod
    def check_ent_coef(name: str, value: Any) -> None:
        """Above 0, as a number, its text or a schedule."""
        with suppress(ValueError):
            value = float(value) if isinstance(value, str) else value
        check_scheduled(name, value, check_scale)

    def _create_aliases(self) -> None:
        check_network(self, "actor", Sampler)
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Those of the family, and ours."""
        super().check_arguments()
        for name, least in (("n_value_samples", 2), ("n_particles", 4)):
            count = getattr(self, name)
            check_count(name, count)
            if count % 2 or count < least:
                raise ValueError(f"{name}={count} is not an even number from {least}: take {max(count + count % 2, least)}.")
        check_choice("proposal", self.proposal, PROPOSALS)
        check_flag("squash_correction", self.squash_correction)
        if isinstance(self.ent_coef, str):
            try:
                self.ent_coef = float(self.ent_coef)
            except ValueError:
                reason = "cannot be learned, SoftQ's policy has no density" if "auto" in self.ent_coef else "is no number"
                raise ValueError(f"ent_coef={self.ent_coef!r} {reason}: give a number above 0.") from None
        check_scheduled("ent_coef", self.ent_coef, check_scale)
        if self.use_sde:
            raise ValueError("SoftQ takes no use_sde: its sampler has a noise of its own.")

    def make_networks(self) -> SoftQNetworks:
        """The sampler and the critics for one gradient step."""
        return SoftQNetworks(self)

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> SoftQNoise:
        """Proposed actions, then particles."""
        size, like = batch.actions.shape, next(self.actor.parameters())

        def empty(n: int) -> th.Tensor:
            return th.empty((size[0], n, size[1]), dtype=like.dtype, device=batch.actions.device)

        def normal(n: int) -> th.Tensor:
            return empty(n).normal_(generator=generator)

        half, from_sampler = self.n_particles // 2, self.proposal == "sampler"
        n_gaussian = self.n_value_samples // 2 if from_sampler else 0
        return SoftQNoise(
            uniform=empty(self.n_value_samples - n_gaussian).uniform_(generator=generator),
            gaussian=normal(n_gaussian) if from_sampler else None,
            next_particles=normal(self.n_particles) if from_sampler else None,
            fixed=normal(half),
            moved=normal(half),
        )

    def act(self, networks: SoftQNetworks, observations: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """The sampler's, in (-1, 1), ``(n_envs, action_dim)``."""
        return th.tanh(networks.unsquashed(observations, noise.unsqueeze(1)).squeeze(1))

    def before_updates(self, networks: SoftQNetworks, batch: Any, noise: SoftQNoise) -> Metrics:
        """The temperature, under SAC's name."""
        return {"ent_coef": networks.temperature}

    def td_target(self, networks: SoftQNetworks, batch: Any, noise: SoftQNoise) -> tuple[th.Tensor, Metrics]:
        """``r + gamma (1 - done) V(s')``, ``(batch, 1)`` (arXiv 1702.08165, eq. 7)."""
        actions, log_density = self.propose(networks, batch.next_observations, noise)
        values = networks.smallest_target_values(batch.next_observations)(actions)
        soft_values = mellowmax(values - networks.temperature * log_density, networks.temperature).unsqueeze(1)
        target = batch.rewards + (1 - batch.dones) * self.discounts_of(batch) * soft_values
        return target, {"soft_value": soft_values.mean()}

    def propose(self, networks: SoftQNetworks, observations: PyTorchObs, noise: SoftQNoise) -> tuple[th.Tensor, th.Tensor]:
        """Actions to estimate ``V(s)`` from, ``(batch, n, action_dim)``, and the log-density they have, ``(batch, n)``."""
        actions = 2 * noise.uniform - 1
        log_uniform = th.full_like(actions[..., 0], -actions.shape[-1] * math.log(2))
        if noise.gaussian is None:
            return actions, log_uniform
        particles = networks.unsquashed(observations, noise.next_particles)
        mean, std = particles.mean(1, keepdim=True), particles.std(1, keepdim=True) + MIN_STD
        u = th.cat([unsquash(actions), mean + std * noise.gaussian], dim=1)
        log_gaussian = squashed_gaussian_log_prob(u, mean, std)
        log_uniform = th.full_like(log_gaussian, -u.shape[-1] * math.log(2))
        return th.tanh(u), th.logaddexp(log_uniform, log_gaussian) - math.log(2)

    def actor_loss(self, networks: SoftQNetworks, batch: Any, noise: SoftQNoise) -> tuple[th.Tensor, Metrics]:
        """Minus the Stein direction times the actions it moves (arXiv 1702.08165, eq. 13 and 14)."""
        with th.no_grad():
            fixed = th.tanh(networks.unsquashed(batch.observations, noise.fixed))
            values = networks.smallest_values(batch.observations)

        def log_density(actions: th.Tensor) -> th.Tensor:
            density = values(actions) / networks.temperature
            if self.squash_correction:
                density = density + th.log(1 - actions**2 + 1e-6).sum(-1)
            return density.sum()

        scores = th.func.grad(log_density)(fixed).detach()
        moved = th.tanh(networks.unsquashed(batch.observations, noise.moved))
        points = moved.detach()
        bandwidth = median_bandwidth(points, fixed)
        direction = stein_direction(points, fixed, scores, bandwidth)
        metrics = {"stein_norm": direction.norm(dim=-1).mean(), "kernel_bandwidth": bandwidth.mean()}
        return -(direction * moved).sum(-1).mean(), metrics


def _smallest(critic: ContinuousCritic, observations: PyTorchObs) -> ValuesOfActions:
    # Once, outside of what the sampler differentiates: running statistics of an extractor cannot be updated in there.
    features = critic.extract_features(observations, critic.features_extractor)

    def values(actions: th.Tensor) -> th.Tensor:
        return th.stack([over_pairs(network, features, actions).squeeze(2) for network in critic.q_networks]).amin(0)

    return values
