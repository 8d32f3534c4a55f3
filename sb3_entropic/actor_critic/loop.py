"""The losses of the actor-critic family."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch.nn import functional as F

from sb3_entropic.actor_critic.networks import ModuleNetworks, PolicyNoise, takes_noise
from sb3_entropic.checks import check_finite, check_scheduled
from sb3_entropic.errors import HyperparameterWarning
from sb3_entropic.off_policy import OffPolicyLoop
from sb3_entropic.operators import soft_td_target
from sb3_entropic.state_dependent import draw_matrices, explore_anew, matrices_of
from sb3_entropic.temperature import (
    as_scheduled,
    at_progress,
    check_temperature,
    learned_from,
    temperature_loss,
    warn_of_unreachable_entropy,
)
from sb3_entropic.updates import Metrics, Update


class ActorCriticLoop(OffPolicyLoop):
    """SAC's losses on the shared loop; to be placed before the SB3 parent in the bases.

    ``class MSAC(ActorCriticLoop, SAC)`` keeps everything of SAC but ``train``, and, with the losses below unchanged,
    *is* SAC: same operations, same random draws, and with ``engine="sb3"`` same parameters to the bit. An algorithm overrides
    a loss, or only a term of the target inside it, or appends to :meth:`updates`.

    ``ent_coef`` and ``target_entropy`` may also be functions of the remaining progress (1 at the start, 0 at the end), or
    ``"lin_0.1"``, from 0.1 to 0. An ``ent_coef`` that is not learned may be set while training.
    """

    kinds_of_actions: ClassVar[tuple[type[spaces.Space], ...]] = (spaces.Box,)
    check_ent_coef = staticmethod(check_temperature)

    def __setattr__(self, name: str, value: Any) -> None:
        # While the fast engine records, a schedule's value is an input.
        if name == "ent_coef" and not isinstance(value, th.Tensor):
            value = self._take_over(value)
        super().__setattr__(name, value)

    def _take_over(self, ent_coef: Any) -> Any:
        """Check an ``ent_coef`` that is set, and let what SB3 has made of the one before follow it."""
        if getattr(self, "ent_coef_optimizer", None) is not None and ent_coef != self.ent_coef:
            raise ValueError(f"ent_coef={ent_coef!r} would change nothing: this model learns it. Give another one to load().")
        if getattr(self, "ent_coef_tensor", None) is None:
            return ent_coef
        ent_coef = as_scheduled("ent_coef", ent_coef)
        self.check_ent_coef("ent_coef", ent_coef)
        if str(ent_coef).startswith("auto"):
            raise ValueError(f"ent_coef={ent_coef!r} cannot begin to be learned: this model was made with another.")
        if not callable(ent_coef):
            self.ent_coef_tensor.fill_(float(ent_coef))
        return ent_coef

    def check_arguments(self) -> None:
        """Check what has been set, and that actions are of a kind that the algorithm takes, which those of a file need not be.

        :raises ValueError: for a value that is not allowed, or if they are not
        """
        super().check_arguments()
        if hasattr(self, "actor"):
            # The constructor takes more.
            check_scheduled("target_entropy", self.target_entropy, check_finite)
        if not isinstance(self.action_space, self.kinds_of_actions):
            kinds = " or ".join(kind.__name__ for kind in self.kinds_of_actions)
            raise ValueError(
                f"{type(self).__name__} takes actions in a {kinds}, and these are in {self.action_space}: "
                "load a file with the class that saved it."
            )

    def _setup_model(self) -> None:
        # As they are given: SB3, and who checks them once more before it, sees what stands in for them.
        self.check_arguments()
        ent_coef, target_entropy = (as_scheduled(name, getattr(self, name)) for name in ("ent_coef", "target_entropy"))
        self.target_entropy = target_entropy
        self.check_ent_coef("ent_coef", ent_coef)
        with suppress(ValueError, TypeError):
            # SB3 takes a number as text, too.
            target_entropy = self.target_entropy = float(target_entropy) if isinstance(target_entropy, str) else target_entropy
        if target_entropy != "auto":
            check_scheduled("target_entropy", target_entropy, partial(check_finite, or_text="auto"))
        # SB3 makes numbers of both: a schedule's first value stands in for it meanwhile.
        self.ent_coef, self.target_entropy = at_progress(ent_coef, 1.0), at_progress(target_entropy, 1.0)
        super()._setup_model()
        if hasattr(self.critic, "quantiles_total") and not isinstance(self, TQC):
            raise ValueError(
                f"{type(self).__name__} needs critics of values, and {type(self.policy).__name__} has critics of quantiles: "
                "they are MTQC's."
            )
        self._warn_of_an_interval_never_reached()
        if self.ent_coef_optimizer is not None and isinstance(self.action_space, spaces.Box):
            warn_of_unreachable_entropy(target_entropy, math.prod(self.action_space.shape))
        self.ent_coef = ent_coef
        if callable(target_entropy):
            self.target_entropy = target_entropy

    def _warn_of_an_interval_never_reached(self) -> None:
        steps = self.gradient_steps
        if steps < 0 and self.train_freq.unit is TrainFrequencyUnit.STEP:
            steps = self.train_freq.frequency * self.n_envs
        if 0 < steps < self.target_update_interval:
            often = "after every gradient step" if steps == 1 else f"every {steps} gradient steps"
            warnings.warn(
                f"target_update_interval={self.target_update_interval} is never reached: as in SB3 it is counted anew in "
                f"every call of train, which has {steps} here. The target network moves {often}.",
                HyperparameterWarning,
                stacklevel=2,
            )

    @classmethod
    def load(
        cls,
        path: Any,
        env: Any = None,
        device: Any = "auto",
        custom_objects: Any = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As in SB3; another ``ent_coef`` may be given, of which a learned temperature starts again.

        :raises ValueError: if it is learned in the file and would not be, or the other way round
        """
        others = {**(custom_objects or {}), **kwargs}
        saved = given = as_scheduled("ent_coef", others.get("ent_coef"))
        if "ent_coef" in others:
            kept = {name: value for name, value in (custom_objects or {}).items() if name != "ent_coef"}
            saved = (load_from_zip_file(path, device=device, custom_objects=kept)[0] or {}).get("ent_coef")
            was, is_ = ("" if str(value).startswith("auto") else "not " for value in (saved, given))
            if was != is_:
                raise ValueError(
                    f"The saved temperature is {was}learned (ent_coef={saved!r}), and that of "
                    f"ent_coef={given!r} is {is_}learned: load it as it is, make a model with "
                    "the other and give it the networks: model.policy.load_state_dict(loaded.policy.state_dict())."
                )
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        if given != saved and model.ent_coef_optimizer is not None:
            model.log_ent_coef.data.fill_(math.log(learned_from("ent_coef", given, 1.0)))
            model.ent_coef_optimizer.state.clear()
        elif "ent_coef" in others and model.ent_coef_optimizer is None:
            # What the file holds is the number that was saved.
            model.ent_coef_tensor = th.tensor(float(at_progress(given, 1.0)), device=model.device)
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "ent_coef_tensor"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        # A schedule's first value stands in for it.
        state_dicts, variables = super()._get_torch_save_params()
        return state_dicts, [name for name in variables if name != "ent_coef_tensor" or not callable(self.ent_coef)]

    def current_target_entropy(self) -> float:
        """The target entropy at this point of training, in nats."""
        return at_progress(self.target_entropy, self._current_progress_remaining)

    def updates(self) -> list[Update]:
        """The algorithm as an ordered list; every loss reads the temperature from before this step's update of it."""
        updates = [
            Update("critic", self.critic.optimizer, self.critic_loss),
            Update("actor", self.actor.optimizer, self.actor_loss),
        ]
        if self.ent_coef_optimizer is not None:
            updates.insert(0, Update("ent_coef", self.ent_coef_optimizer, self.temperature_loss))
        return updates

    def temperature_loss(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, dict]:
        """See :func:`sb3_entropic.temperature.temperature_loss`."""
        _, log_prob = networks.act(batch.observations, noise.current)
        return temperature_loss(networks.log_temperature, log_prob, self.current_target_entropy()), {}

    def critic_loss(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, dict]:
        """Half the squared error of every critic, summed over critics (arXiv 1812.05905, eq. 5)."""
        with th.no_grad():
            target, metrics = self.td_target(networks, batch, noise)
        values = networks.values(batch.observations, batch.actions)
        return 0.5 * sum(F.mse_loss(value, target) for value in values), metrics

    def actor_loss(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, dict]:
        """``temperature * log pi(a|s) - Q(s, a)`` for ``a`` sampled from the policy (arXiv 1812.05905, eq. 7)."""
        actions, log_prob = networks.act(batch.observations, noise.current)
        return (networks.temperature * log_prob - self.actor_values(networks, batch.observations, actions)).mean(), {}

    def actor_values(self, networks: ModuleNetworks, observations: Any, actions: th.Tensor) -> th.Tensor:
        """What the actor ascends, ``(batch, 1)``: the smallest of its critics' values."""
        return _smallest(networks.values(observations, actions))

    def next_values(self, networks: ModuleNetworks, observations: Any, actions: th.Tensor) -> th.Tensor:
        """What the target critics say of a sampled next action, ``(batch, 1)``: their minimum."""
        return _smallest(networks.target_values(observations, actions))

    def td_target(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, dict]:
        """Soft Bellman target of the replayed transition (under ``no_grad``), and what to log of it."""
        next_actions, next_log_prob = networks.act(batch.next_observations, noise.next)
        next_values = self.next_values(networks, batch.next_observations, next_actions)
        rewards, metrics = self.regularised_rewards(networks, batch)
        discounts = self.discounts_of(batch)
        entropy_term = self.bounded_entropy_term(networks.temperature * next_log_prob)
        return soft_td_target(rewards, batch.dones, discounts, next_values, entropy_term), metrics

    def regularised_rewards(self, networks: ModuleNetworks, batch: Any) -> tuple[th.Tensor, dict]:
        """The rewards the target starts from, ``(batch, 1)``: here the environment's own."""
        return batch.rewards, {}

    def bounded_entropy_term(self, entropy_term: th.Tensor) -> th.Tensor:
        """What enters the target of ``temperature * log pi(a'|s')``: here all of it."""
        return entropy_term

    def make_networks(self) -> ModuleNetworks:
        """SB3's modules for one gradient step."""
        return ModuleNetworks(self)

    def before_updates(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> Metrics:
        """SB3 evaluates the actor on ``s`` before all else; batch-norm statistics and a policy's own draws depend on it."""
        _, log_prob = networks.act(batch.observations, noise.current)
        return {"ent_coef": networks.temperature, "policy_entropy": -log_prob.detach().mean()}

    def target_networks(self) -> list[tuple[th.nn.Module, th.nn.Module]]:
        """The target critics follow the critics."""
        return [(self.critic_target, self.critic)]

    def coefficients(self) -> dict[str, float]:
        """The discount, the target entropy, and the temperature if it is scheduled."""
        numbers = {**super().coefficients(), "target_entropy": self.current_target_entropy()}
        if callable(self.ent_coef):
            numbers["ent_coef"] = at_progress(self.ent_coef, self._current_progress_remaining)
        return numbers

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor:
        """Standard-normal draws, ``(n_envs, action_dim)``; with gSDE the matrices that are explored by at present."""
        if self.use_sde:
            return matrices_of(self.actor, len(observations))
        shape, like = (len(observations), math.prod(self.action_space.shape)), next(self.actor.parameters())
        return th.empty(shape, dtype=like.dtype, device=observations.device).normal_(generator=generator)

    def act(self, networks: ModuleNetworks, observations: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """Sampled from the policy, in (-1, 1)."""
        return networks.explore(observations, noise) if self.use_sde else networks.act(observations, noise)[0]

    def explore_anew(self, generator: th.Generator) -> None:
        """Draw the matrices of gSDE."""
        explore_anew(self.actor, self.n_envs, generator)

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> PolicyNoise:
        """Standard-normal draws for ``s``, then for ``s'``; with gSDE for both at once, and in SB3's loop by its actor."""
        if self.use_sde and generator is None:
            self.actor.reset_noise()
            return PolicyNoise(None, None)
        if not takes_noise(self.actor):
            return PolicyNoise(None, None)
        if self.use_sde:
            shared, _ = draw_matrices(self.actor, 1, generator)
            return PolicyNoise(shared, shared)
        # The actor's dtype, not the actions': a Box may hold integers.
        dtype = next(self.actor.parameters()).dtype
        return PolicyNoise(*(th.empty_like(batch.actions, dtype=dtype).normal_(generator=generator) for _ in range(2)))


def _smallest(values: tuple[th.Tensor, ...]) -> th.Tensor:
    return th.min(th.cat(values, dim=1), dim=1, keepdim=True)[0]
