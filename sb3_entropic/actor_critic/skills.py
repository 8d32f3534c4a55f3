"""What DIAYN puts around SAC: environments whose observations end with a skill, and a network that tells skills apart."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import FlattenExtractor, create_mlp, get_actor_critic_arch
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, is_vecenv_wrapped, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from stable_baselines3.sac import policies as sac
from torch import nn

from sb3_entropic.checks import check_vectors


class SkillSpace(spaces.Box):
    """Observations of an environment, each followed by the one-hot of a skill.

    :param plain: the environment's observations, ``(n_features,)``
    :param n_skills: number of skills
    :raises UserError: if ``plain`` is of another kind
    """

    def __init__(self, plain: spaces.Space, n_skills: int):
        check_vectors("DIAYN", plain)
        zeros, ones = np.zeros(n_skills, plain.dtype), np.ones(n_skills, plain.dtype)
        super().__init__(np.append(plain.low, zeros), np.append(plain.high, ones), dtype=plain.dtype)
        self.plain, self.n_skills = plain, n_skills

    def join(self, observations: np.ndarray, skills: np.ndarray | int) -> np.ndarray:
        """Observations ``(..., n_features)`` with skills ``(...)`` as ``(..., n_features + n_skills)``."""
        return np.concatenate([observations, np.eye(self.n_skills, dtype=self.dtype)[skills]], axis=-1)

    def split(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """What :meth:`join` has joined, of a batch: ``(batch, n_features)`` and ``(batch, 1)``."""
        return observations[:, : -self.n_skills], observations[:, -self.n_skills :].argmax(dim=1, keepdim=True)


class VecSkills(VecEnvWrapper):
    """Environments in each of which a skill is drawn for every episode and appended to what is observed.

    The last observation of an episode, in ``info["terminal_observation"]``, carries the skill of that episode.

    :param venv: with vectors of observations
    :param n_skills: number of skills, all equally likely
    :raises ValueError: if the observations are of another kind, or normalised by ``VecNormalize``
    """

    def __init__(self, venv: VecEnv, n_skills: int):
        _refuse_normalisation(venv)
        super().__init__(venv, observation_space=SkillSpace(venv.observation_space, n_skills))
        self.skills = np.zeros(self.num_envs, dtype=np.int64)
        """The skill of each environment's episode, ``(n_envs,)``."""
        self._generator = skill_generator(None)

    def __getstate__(self) -> dict[str, Any]:
        # What SB3 keeps of the class can be neither copied nor pickled.
        return {name: value for name, value in vars(self).items() if name != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, class_attributes=dict(inspect.getmembers(type(self))))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments and the draws of skills."""
        self._generator = skill_generator(seed)
        return self.venv.seed(seed)

    def reset(self) -> np.ndarray:
        """Begin an episode, with a skill of its own, in every environment."""
        self.skills = self._generator.integers(self.observation_space.n_skills, size=self.num_envs)
        return self.observation_space.join(self.venv.reset(), self.skills)

    def step_wait(self) -> VecEnvStepReturn:
        """Step; where an episode ends, draw the skill of the next."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            if (terminal := infos[index].get("terminal_observation")) is not None:
                infos[index]["terminal_observation"] = self.observation_space.join(terminal, self.skills[index])
            self.skills[index] = self._generator.integers(self.observation_space.n_skills)
        return self.observation_space.join(observations, self.skills), rewards, dones, infos


def skill_generator(seed: int | None) -> np.random.Generator:
    """Random numbers to draw skills from.

    :param seed: from 0; ``None`` for one of the system's
    """
    # A key of its own: gymnasium seeds environments by the seed alone, and a skill that is drawn from the very numbers
    # that place the first state could be read off it.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))


def with_skills(env: GymEnv, n_skills: int, verbose: int = 0, observed: np.ndarray | None = None) -> VecEnv:
    """A user's environment, vectorised and monitored as SB3 does it, with skills if it has none yet.

    :param observed: the last observations, with skills, of episodes that go on; ``None`` where they begin
    :raises ValueError: if something around the skills hides them
    """
    env = BaseAlgorithm._wrap_env(env, verbose)
    if not is_vecenv_wrapped(env, VecSkills):
        env = VecSkills(env, n_skills)
        if observed is not None:
            env.skills = env.observation_space.split(th.as_tensor(observed))[1].flatten().numpy()
        return env
    _refuse_normalisation(env)
    if not isinstance(env.observation_space, SkillSpace):
        raise ValueError(
            f"The observations {env.observation_space} hide the skill they end with: put {type(env).__name__} around the "
            "plain environments, and no VecSkills in it."
        )
    return env


def _refuse_normalisation(venv: VecEnv) -> None:
    if unwrap_vec_normalize(venv) is not None:
        raise ValueError(
            "DIAYN takes no VecNormalize, which would have to be told of the skill in the observations it keeps: "
            "put gymnasium.wrappers.NormalizeObservation around each environment."
        )


class Discriminator(BaseModel):
    """``log q(z|s)``: which skill has led to a state.

    :param observation_space: of the environment, without a skill
    :param action_space: of the environment
    :param n_skills: number of skills
    :param net_arch: hidden layers
    :param activation_fn: between them
    :param features: positions of the observation that it sees; ``None`` for all
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        n_skills: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        features: list[int] | None = None,
    ):
        super().__init__(observation_space, action_space, features_extractor=FlattenExtractor(observation_space))
        self.features = features
        if features is not None:
            self.register_buffer("_positions", th.tensor(features), persistent=False)
        n_features = observation_space.shape[0] if features is None else len(features)
        self.logits_net = nn.Sequential(*create_mlp(n_features, n_skills, net_arch, activation_fn))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """``log q(.|s)`` of observations without their skills: ``(batch, n_features)`` to ``(batch, n_skills)``, nats."""
        seen = self.extract_features(observations, self.features_extractor)
        if self.features is not None:
            seen = seen.index_select(1, self._positions)
        return th.log_softmax(self.logits_net(seen), dim=1)

    def extra_repr(self) -> str:
        """What it sees."""
        return f"features={self.features}"


class MlpPolicy(sac.MlpPolicy):
    """SAC's policy for vectors that end with a skill, with a discriminator.

    :param discriminator_arch: hidden layers of the discriminator; by default the actor's
    :param discriminator_features: what of the environment's observation it sees: positions or a slice, by default all.
        Skills then differ in this rather than in whatever is easiest to tell apart.
    :raises ValueError: for positions that the observation has not

    The other arguments are those of :class:`stable_baselines3.sac.MlpPolicy`.
    """

    def __init__(
        self,
        observation_space: SkillSpace,
        *args: Any,
        discriminator_arch: list[int] | None = None,
        discriminator_features: Sequence[int] | slice | None = None,
        **kwargs: Any,
    ):
        self._discriminator_arch = discriminator_arch
        self._features = _positions(discriminator_features, observation_space.plain.shape[0])
        super().__init__(observation_space, *args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # After SAC's own, so that those begin as SAC's do.
        self.discriminator = self.make_discriminator()
        self.discriminator.optimizer = self.optimizer_class(
            self.discriminator.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def make_discriminator(self) -> Discriminator:
        """The discriminator."""
        space, arch = self.observation_space, self._discriminator_arch
        arch = get_actor_critic_arch(self.net_arch)[0] if arch is None else arch
        network = Discriminator(space.plain, self.action_space, space.n_skills, arch, self.activation_fn, self._features)
        return network.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        ours = {"discriminator_arch": self._discriminator_arch, "discriminator_features": self._features}
        return {**super()._get_constructor_parameters(), **ours}


def _positions(features: Sequence[int] | slice | None, n_features: int) -> list[int] | None:
    """Positions as whole numbers from 0."""
    if features is None:
        return None
    known = range(n_features)
    try:
        found = list(known[features]) if isinstance(features, slice) else [known[index] for index in features]
    except (IndexError, TypeError):
        found = []
    if not found:
        raise ValueError(
            f"discriminator_features={features!r} are not positions in an observation of {n_features} numbers: "
            f"give some of 0 to {n_features - 1}, or a slice."
        )
    return found
