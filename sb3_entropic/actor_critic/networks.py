"""What an actor-critic loss sees of the networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch as th
from sb3_contrib import tqc
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import Actor

from sb3_entropic.densities import gaussian_log_prob, sample_squashed_gaussian
from sb3_entropic.forwards import SharedForwards
from sb3_entropic.state_dependent import is_state_dependent
from sb3_entropic.temperature import current_temperature


class PolicyNoise(NamedTuple):
    """The standard-normal draws of one gradient step, each ``(batch, action_dim)``.

    With state-dependent exploration (gSDE) both are those of its one matrix, ``(latent_dim, action_dim)``. ``None`` where the
    policy draws its own: gSDE in SB3's loop, or an actor with its own ``action_log_prob``.
    """

    current: th.Tensor | None
    next: th.Tensor | None


class ModuleNetworks:
    """SB3's own modules, seen for one gradient step.

    The actor's forward on a batch of observations is made once and shared: SB3 evaluates it on ``s`` before anything
    else, and the temperature's loss, the bonus and the actor's loss all read that.

    :param model: an algorithm with SB3's ``actor``, ``critic`` and ``critic_target``
    """

    def __init__(self, model: Any):
        self.temperature = current_temperature(model)
        """Shape ``(1,)`` if learned, ``()`` if fixed; the value from before this step's temperature update."""
        self.log_temperature: th.Tensor | None = model.log_ent_coef
        self._actor: Actor = model.actor
        self._critic = model.critic
        self._critic_target = model.critic_target
        self._forwards = SharedForwards()

    def act(self, observations: PyTorchObs, noise: th.Tensor | None) -> tuple[th.Tensor, th.Tensor]:
        """Actions of the current policy, ``(batch, action_dim)`` in (-1, 1), and log-densities, ``(batch, 1)``."""
        return self._forwards.once(lambda: self._act(observations, noise), observations, noise)

    def explore(self, observations: PyTorchObs, matrices: th.Tensor) -> th.Tensor:
        """Actions by gSDE's matrices, ``(batch, latent_dim, action_dim)``, one for each observation."""
        mean, _, extra = self._policy_parameters(observations)
        return th.tanh(mean + th.bmm(extra["latent_sde"].unsqueeze(1), matrices).squeeze(1))

    def gaussian(self, observations: PyTorchObs) -> tuple[th.Tensor, th.Tensor]:
        """Mean and standard deviation of the policy before the squash, each ``(batch, action_dim)``."""
        mean, log_std, extra = self._policy_parameters(observations)
        if "latent_sde" not in extra:
            return mean, log_std.exp()
        # Built from the parameters: SB3's action_dist is mutable and another forward may have used it since.
        distribution = self._actor.action_dist
        variance = th.mm(extra["latent_sde"] ** 2, distribution.get_std(log_std) ** 2)
        return mean, th.sqrt(variance + distribution.epsilon)

    def values(self, observations: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """``Q_i(s, a)`` of every online critic, each ``(batch, 1)``."""
        return self._critic(observations, actions)

    def target_values(self, observations: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """``Q_i(s, a)`` of every target critic, each ``(batch, 1)``."""
        return self._critic_target(observations, actions)

    def _act(self, observations: PyTorchObs, noise: th.Tensor | None) -> tuple[th.Tensor, th.Tensor]:
        if overrides_sampling(self._actor):
            actions, log_prob = self._actor.action_log_prob(observations)
        elif noise is None:
            mean, log_std, extra = self._policy_parameters(observations)
            actions, log_prob = self._actor.action_dist.log_prob_from_params(mean, log_std, **extra)
        elif is_state_dependent(self._actor):
            actions, log_prob = self._act_state_dependently(observations, noise)
        else:
            mean, std = self.gaussian(observations)
            actions, log_prob = sample_squashed_gaussian(mean, std, noise, self._actor.action_dist.epsilon)
        return actions, log_prob.reshape(-1, 1)

    def _act_state_dependently(self, observations: PyTorchObs, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """``tanh`` of the mean plus the latents times a matrix that all share (gSDE, arXiv 2005.05719), with SB3's bits."""
        _, log_std, extra = self._policy_parameters(observations)
        mean, std = self.gaussian(observations)
        distribution = self._actor.action_dist
        actions = th.tanh(mean + th.mm(extra["latent_sde"], noise * distribution.get_std(log_std)))
        # SB3 keeps no u and finds it from the action.
        u = distribution.bijector.inverse(actions)
        return actions, gaussian_log_prob(u, mean, std) - distribution.bijector.log_prob_correction(u).sum(dim=1)

    def _policy_parameters(self, observations: PyTorchObs) -> tuple[th.Tensor, th.Tensor, dict[str, th.Tensor]]:
        return self._forwards.once(lambda: self._actor.get_action_dist_params(observations), observations)


class DiscreteNetworks:
    """A categorical actor and its critics, seen for one gradient step.

    :param model: an algorithm with ``actor``, ``critic`` and ``critic_target``
    """

    def __init__(self, model: Any):
        self.temperature = current_temperature(model)
        self.log_temperature: th.Tensor | None = model.log_ent_coef
        self._policy = model.policy
        self._forwards = SharedForwards()

    def log_policy(self, observations: PyTorchObs) -> th.Tensor:
        """``log pi(.|s)``, ``(batch, n_actions)``."""
        actor = self._policy.actor
        return self._forwards.once(lambda: actor.log_policy(observations), actor, observations)

    def target_log_policy(self, observations: PyTorchObs) -> th.Tensor:
        """``log pi(.|s)`` of the actor's slowly moving copy, ``(batch, n_actions)``."""
        return self._policy.actor_target.log_policy(observations)

    def all_values(self, observations: PyTorchObs) -> th.Tensor:
        """``Q_i(s, .)`` of the online critics from before this step's update of them, ``(n_critics, batch, n_actions)``."""
        critic = self._policy.critic
        return self._forwards.once(lambda: th.stack(critic(observations)), critic, observations)

    def target_values(self, observations: PyTorchObs) -> th.Tensor:
        """``Q_i(s, .)`` of the target critics, ``(n_critics, batch, n_actions)``."""
        return th.stack(self._policy.critic_target(observations))

    def values(self, observations: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """``Q_i(s, a)`` of every online critic, each ``(batch, 1)``."""
        return tuple(values.gather(1, actions.long()) for values in self.all_values(observations))


def overrides_sampling(actor: th.nn.Module) -> bool:
    """Whether a custom actor brings its own ``action_log_prob``, which must then be used as it is."""
    return getattr(type(actor), "action_log_prob", None) not in (Actor.action_log_prob, tqc.policies.Actor.action_log_prob)


def takes_noise(actor: th.nn.Module) -> bool:
    """Whether the actor is SB3's tanh-Gaussian, whose noise can be drawn outside.

    Not with dropout: its masks come from the same generator, and SB3 draws them between the two samples.
    """
    if not has_known_density(actor):
        return False
    return not any(isinstance(module, th.nn.modules.dropout._DropoutNd) for module in actor.modules())


def has_known_density(actor: th.nn.Module) -> bool:
    """Whether the density of a given action can be had: SB3's tanh-Gaussian, state-dependent exploration included."""
    is_gaussian = type(getattr(actor, "action_dist", None)) is SquashedDiagGaussianDistribution or is_state_dependent(actor)
    return is_gaussian and not overrides_sampling(actor)
