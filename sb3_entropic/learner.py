"""What every algorithm of ours has besides its losses: a choice of the engine that runs them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from torch.utils._pytree import tree_leaves, tree_map_only

from sb3_entropic.checks import check_inherited
from sb3_entropic.engine import choice
from sb3_entropic.engine.learn import CallbackObjects, learn_together
from sb3_entropic.engine.lockstep import Lockstep
from sb3_entropic.engine.options import Engine, as_engine
from sb3_entropic.engine.step import RecordingError
from sb3_entropic.engine.streams import Streams
from sb3_entropic.engine.support import why_not
from sb3_entropic.errors import HyperparameterWarning, article, nearest


class Learner:
    """Learns with the fast engine or SB3's own loop; to be placed before the SB3 parent in the bases.

    :param engine: ``"auto"``, ``"fast"``, ``"sb3"`` or an :class:`sb3_entropic.Engine`, which explains them
    """

    lockstep_class: type[Lockstep]
    """How the fast engine lets models of the family act and learn."""

    def __init__(self, *args: Any, engine: str | Engine = "auto", **kwargs: Any):
        check_inherited(kwargs, self._parents_arguments())
        self.engine = as_engine(engine)
        self.engine_used = ""
        """What ran the last ``learn``: ``"sb3"``, or ``"fast"`` and whether it was compiled; empty before it."""
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        # A loaded model gets its arguments after __init__, as they were given.
        self.engine = as_engine(self.engine)
        check_inherited(vars(self), self._parents_arguments())
        self.check_arguments()
        super()._setup_model()

    @classmethod
    def _parents_arguments(cls) -> Iterable[str]:
        parent = next(base for base in cls.__mro__ if _is_sb3s(base))
        return signature(parent.__init__).parameters

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases:
            names = ", ".join(map(repr, self.policy_aliases))
            hint = nearest(policy_name, self.policy_aliases)
            raise ValueError(f"Policy {policy_name} unknown: {type(self).__name__} has {names}{hint}")
        return super()._get_policy_from_name(policy_name)

    @classmethod
    def load(
        cls,
        path: Any,
        env: Any = None,
        device: Any = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Any:
        """As in SB3.

        :raises TypeError: for a misspelt argument
        :raises ValueError: if the file holds a model with networks of another kind
        """
        arguments = signature(cls.__init__).parameters
        for name in kwargs.keys() - arguments.keys():
            # Attributes that are no arguments may be given, too, such as _stats_window_size.
            if not name.startswith("_") and (hint := nearest(name, arguments, cutoff=0.85)) != ".":
                raise TypeError(f"{cls.__name__} has no argument {name!r}{hint}")
        try:
            return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        except Exception as error:
            data = load_from_zip_file(path, device=device, custom_objects=custom_objects)[0] or {}
            saved, ours = data.get("policy_class"), cls.policy_aliases.get("MlpPolicy", BasePolicy)
            family = next(base for base in ours.__mro__ if _is_sb3s(base))
            if isinstance(saved, type) and not issubclass(saved, family):
                raise ValueError(
                    f"{path} holds a model whose policy is {article(saved.__name__)} {saved.__name__}, and {cls.__name__} has "
                    f"{article(ours.__name__)} {ours.__name__}: load it with the class that saved it."
                ) from error
            raise

    def check_arguments(self) -> None:
        """Check the arguments that are ours: before networks are made, and again whenever learning begins.

        What a class of yours checks here it has to set before it calls ``super().__init__``.

        :raises ValueError: for a value that is not allowed
        """

    def coefficients(self) -> dict[str, float]:
        """Numbers among the algorithm's attributes that its losses read and that may change, or differ between seeds."""
        return {"gamma": self.gamma}

    def gradient_steps_between(self, done: int, total_timesteps: int) -> int:
        """How many gradient steps there are from so many environment steps to so many."""
        raise NotImplementedError

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

        :raises ValueError: if ``engine="fast"`` cannot run this model; says why; or if an argument has been set to what is not
            allowed
        """
        with warnings.catch_warnings():
            # The constructor has warned.
            warnings.simplefilter("ignore", HyperparameterWarning)
            check_inherited(vars(self), self._parents_arguments())
            self.check_arguments()
        name = tb_log_name or type(self).__name__
        reason, cause = "as asked for" if self.engine.kind == "sb3" else why_not(self), None
        if reason is None and self.engine.kind == "auto":
            reason = choice.why_not_alone(self, total_timesteps, reset_num_timesteps)
        if reason is None:
            arguments = (total_timesteps, log_interval, [name], reset_num_timesteps, progress_bar, self.engine)
            try:
                learn_together([self], [callback], [Streams(own=False)], *arguments)
                return self
            except RecordingError as error:
                reason, cause = choice.cannot_record(self, error), error
            except CallbackObjects as objection:
                choice.leave_to_sb3(self, objection.reason)
                return self.go_on_begun(*objection.begun[0], log_interval)
        choice.leave_to_sb3(self, reason, cause)
        self.engine_used = "sb3"
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def go_on_begun(self, total_timesteps: int, callback: BaseCallback, log_interval: int | None) -> Any:
        """Learn in SB3's own loop, set up and with a callback that has been told so.

        :param total_timesteps: at which to end
        :param callback: as ``_setup_learn`` has returned it
        :param log_interval: as in ``learn``
        """

        def set_up(*args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
            del self._setup_learn
            return total_timesteps, callback

        def was_told(*args: Any) -> None:
            del callback.on_training_start

        self._setup_learn, callback.on_training_start = set_up, was_told
        self.engine_used = "sb3"
        return super().learn(total_timesteps, callback, log_interval)

    def get_parameters(self) -> dict[str, dict]:
        """As in SB3; what is saved in the middle of a stack's training holds this model's parameters alone."""
        parameters = super().get_parameters()
        parts = [value for value in tree_leaves(parameters) if isinstance(value, th.Tensor) and _is_part(value)]
        # Copies of dictionaries would lose what torch keeps beside their values.
        return tree_map_only(th.Tensor, _without_the_rest, parameters) if parts else parameters


def _is_sb3s(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("stable_baselines3", "sb3_contrib")


def _is_part(tensor: th.Tensor) -> bool:
    """Whether a tensor is a part of a larger storage."""
    return tensor.layout is th.strided and tensor.untyped_storage().nbytes() > tensor.nbytes


def _without_the_rest(tensor: th.Tensor) -> th.Tensor:
    return tensor.clone() if _is_part(tensor) else tensor
