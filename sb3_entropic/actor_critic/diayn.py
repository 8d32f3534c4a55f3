"""Diversity is all you need: skills without a reward."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv

from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.actor_critic.networks import ModuleNetworks, PolicyNoise
from sb3_entropic.actor_critic.skills import Discriminator, MlpPolicy, SkillSpace, skill_generator, with_skills
from sb3_entropic.checks import check_at_least_zero, check_count, check_every_state, check_network
from sb3_entropic.operators import is_off
from sb3_entropic.signature import extends
from sb3_entropic.updates import Metrics, Update


class SkillNetworks(ModuleNetworks):
    """SAC's modules and the discriminator, seen for one gradient step.

    :param model: an algorithm with SB3's networks and a ``discriminator``
    """

    def __init__(self, model: DIAYN):
        super().__init__(model)
        self._discriminator, self._space = model.discriminator, model.observation_space

    def log_skills(self, observations: th.Tensor) -> th.Tensor:
        """``log q(.|s)``, ``(batch, n_skills)``, of observations whose skills it does not look at."""
        return self._forwards.once(
            lambda: self._discriminator(self._space.split(observations)[0]), self._discriminator, observations
        )


@extends(SAC)
class DIAYN(ActorCriticLoop, SAC):
    """Soft Actor-Critic that is rewarded for how well its states tell its skill: no other reward is needed.

    ::

        z ~ Uniform{0, ..., n_skills - 1}          drawn for every episode, seen by the policy and the critics
        r = log q(z|s') - log p(z)                 in the place of the environment's reward
        discriminator = -log q(z|s')

    (DIAYN, arXiv 1802.06070, eq. 3 and algorithm 1). The reward is computed at every update from the discriminator as it
    then is, never stored. It is that of the state an action has led to, as in the paper's listing; the paper's code reads
    the state before, and so never the last one of an episode. ``-log p(z) = log n_skills`` makes it 0 where nothing can be
    told and ``log n_skills`` at most, so that an episode of distinct states is not better cut short.

    The environment is a plain one, here and in ``load`` and ``set_env``: the model appends the one-hot of the skill to its
    observations (:class:`sb3_entropic.actor_critic.skills.VecSkills`), which are vectors. ``predict`` takes its plain
    observations, too, and acts by the skill of :meth:`set_skill`, 0 unless another is set: what SB3's ``evaluate_policy``
    and this package's harness report is the environment's return of that one skill. Observations that end with a one-hot
    already are acted on as they are.

    Every argument of :class:`stable_baselines3.SAC` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/sac.html. The paper fixes ``ent_coef=0.1``; the default
    stays SAC's ``"auto"``. ``n_steps > 1`` and ``optimize_memory_usage`` are refused: they drop states that are rewarded.
    ``policy_kwargs`` may have ``discriminator_arch`` and ``discriminator_features``, see
    :class:`sb3_entropic.actor_critic.skills.MlpPolicy`. The keyword-only arguments are ours:

    :param n_skills: number of skills, at least 2
    :param environment_reward_weight: weight of the environment's reward, added to the intrinsic one, >= 0

    Logged besides SAC's: ``train/discriminator_loss`` (nats), ``train/discriminator_accuracy`` (share of the batch whose
    likeliest skill is the right one) and ``train/intrinsic_reward`` (mean, nats); like all of this family
    ``train/policy_entropy`` (nats). ``rollout/ep_rew_mean`` is the
    environment's reward, of all skills.

    :raises ValueError: for a value that is not allowed, or an environment whose observations are no vectors
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MlpPolicy}

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        n_skills: int = 50,
        environment_reward_weight: float = 0.0,
        **kwargs: Any,
    ):
        self.n_skills = n_skills
        self.environment_reward_weight = environment_reward_weight
        self.skill: int | None = 0
        """What :meth:`predict` acts by; see :meth:`set_skill`."""
        self._check_skills()
        if env is not None:
            verbose = kwargs.get("verbose", 0)
            env = with_skills(maybe_make_env(env, verbose), n_skills, verbose)
        super().__init__(policy, env, *args, **kwargs)

    def check_arguments(self) -> None:
        """Those of the family, and ours."""
        super().check_arguments()
        self._check_skills()

    def _check_skills(self) -> None:
        check_count("n_skills", self.n_skills)
        if self.n_skills == 1:
            raise ValueError("n_skills=1 leaves nothing to tell apart: the nearest choice is 2.")
        check_at_least_zero("environment_reward_weight", self.environment_reward_weight)

    def _setup_model(self) -> None:
        made_for = getattr(self.observation_space, "n_skills", self.n_skills)
        if self.n_skills != made_for:
            raise ValueError(f"n_skills={self.n_skills} is not the {made_for} of the saved networks or of the environment.")
        super()._setup_model()
        check_every_state(self)

    def _create_aliases(self) -> None:
        check_network(self, "discriminator", Discriminator)
        super()._create_aliases()
        self.discriminator = self.policy.discriminator

    def set_random_seed(self, seed: int | None = None) -> None:
        """As in SB3; the skills that :meth:`predict` draws are seeded, too."""
        super().set_random_seed(seed)
        self._skill_generator = skill_generator(seed)

    def set_skill(self, skill: int | None) -> None:
        """Choose what :meth:`predict` does with plain observations; training draws its skills itself.

        :param skill: from 0 to ``n_skills - 1``, 0 at first; ``None`` draws one for every episode
        :raises ValueError: if it is none of these
        """
        if skill is not None and (not isinstance(skill, Integral) or not 0 <= skill < self.n_skills):
            raise ValueError(f"skill={skill!r} is not one of 0 to {self.n_skills - 1}, nor None for one drawn every episode.")
        self.skill = skill

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3, of an observation of the environment, or several, by the skill of :meth:`set_skill`.

        :param state: with a skill for every episode, what the last call has returned: the skills, ``(n_envs,)``
        :param episode_start: the same: whether an episode begins, ``(n_envs,)``; ``evaluate_policy`` passes both
        :raises ValueError: with a skill for every episode, where ``episode_start`` is missing
        """
        space = self.observation_space
        if not isinstance(observation, (dict, tuple)):
            observation = np.asarray(observation)
        if isinstance(observation, np.ndarray) and observation.shape[-1:] == space.plain.shape:
            shape = observation.shape[:-1]
            if self.skill is None:
                state = (self._skills_of_episodes(state, episode_start, math.prod(shape)),)
            skills = np.full(shape, self.skill) if self.skill is not None else state[0].reshape(shape)
            observation = space.join(observation, skills)
        return super().predict(observation, state, episode_start, deterministic)

    def _skills_of_episodes(
        self, state: tuple[np.ndarray, ...] | None, episode_start: np.ndarray | None, n_episodes: int
    ) -> np.ndarray:
        if episode_start is None:
            raise ValueError(
                "A skill drawn for every episode needs to know where they begin: pass predict state and episode_start, as "
                "SB3's evaluate_policy does, or choose one by set_skill."
            )
        if np.size(episode_start) != n_episodes:
            raise ValueError(
                f"episode_start has {np.size(episode_start)} values for {n_episodes} observations: give one for each."
            )
        drawn = self._skill_generator.integers(self.n_skills, size=np.shape(episode_start))
        return drawn if state is None else np.where(episode_start, drawn, state[0])

    def updates(self) -> list[Update]:
        """SAC's, then the discriminator's."""
        return [*super().updates(), Update("discriminator", self.discriminator.optimizer, self.discriminator_loss)]

    def make_networks(self) -> SkillNetworks:
        """SB3's modules and the discriminator for one gradient step."""
        return SkillNetworks(self)

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weight of the environment's reward."""
        return {**super().coefficients(), "environment_reward_weight": self.environment_reward_weight}

    def before_updates(self, networks: SkillNetworks, batch: Any, noise: PolicyNoise) -> Metrics:
        """What the family logs, and how often the likeliest skill is the right one."""
        right = networks.log_skills(batch.next_observations).argmax(dim=1, keepdim=True) == self._skills(batch)
        return {**super().before_updates(networks, batch, noise), "discriminator_accuracy": right.float().mean()}

    def regularised_rewards(self, networks: SkillNetworks, batch: Any) -> tuple[th.Tensor, Metrics]:
        """``log q(z|s') - log p(z)``, and the environment's reward by its weight."""
        intrinsic = self._log_likelihood(networks, batch) + math.log(self.n_skills)
        metrics = {"intrinsic_reward": intrinsic.mean()}
        if is_off(self.environment_reward_weight):
            return intrinsic, metrics
        return intrinsic + self.environment_reward_weight * batch.rewards, metrics

    def discriminator_loss(self, networks: SkillNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, Metrics]:
        """``-log q(z|s')``."""
        return -self._log_likelihood(networks, batch).mean(), {}

    def _skills(self, batch: Any) -> th.Tensor:
        return self.observation_space.split(batch.observations)[1]

    def _log_likelihood(self, networks: SkillNetworks, batch: Any) -> th.Tensor:
        """``log q(z|s')``, ``(batch, 1)``."""
        return networks.log_skills(batch.next_observations).gather(1, self._skills(batch))

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As in SB3, with a plain environment."""
        observed = None if force_reset else self._last_obs
        super().set_env(with_skills(env, self.n_skills, self.verbose, observed), force_reset)

    @classmethod
    def load(
        cls,
        path: Any,
        env: GymEnv | None = None,
        device: Any = "auto",
        custom_objects: Any = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As in SB3, with a plain environment."""
        if env is not None:
            # SB3 compares the environment with the saved one's spaces before there is a model that knows its skills.
            data, _, _ = load_from_zip_file(path, device=device, custom_objects=custom_objects)
            if isinstance(space := data.get("observation_space"), SkillSpace):
                observed = None if force_reset else data.get("_last_obs")
                env = with_skills(env, space.n_skills, observed=observed)
        return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "discriminator", "_skill_generator"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, "discriminator.optimizer"], tensors
