"""What an update is: one loss, and the optimiser that descends it.

An algorithm is an ordered list of updates. Its family's loop draws a batch and the noise, walks the list, and knows
nothing else about the algorithm: a new network with a loss of its own is one more entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch as th

Metrics = dict[str, th.Tensor]
"""Scalars to log, by the name that follows ``train/``; still on the device, detached by the loop."""

Loss = Callable[[Any, Any, Any], tuple[th.Tensor, Metrics]]
"""``loss(networks, batch, noise) -> (scalar, metrics)``: pure, so randomness is an input and networks are an argument."""


@dataclass(frozen=True)
class Update:
    """One entry of an algorithm's list of updates.

    :param name: what is updated; its loss is logged as ``train/<name>_loss``, or ``train/loss`` if the name is empty
    :param optimizer: holds the parameters that are updated, and only those receive a gradient
    :param loss: see :data:`Loss`
    :param max_grad_norm: the gradient's norm over all parameters is clipped to this; ``None`` for no limit
    """

    name: str
    optimizer: th.optim.Optimizer
    loss: Loss
    max_grad_norm: float | None = None

    @property
    def parameters(self) -> list[th.Tensor]:
        """The parameters this update may change: those of its optimiser that are not frozen."""
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    @property
    def settings(self) -> dict[str, Any]:
        """What the optimiser has been told besides its parameters and their learning rate."""
        return {name: value for name, value in self.optimizer.param_groups[0].items() if name not in ("params", "lr")}

    @property
    def loss_name(self) -> str:
        """What the loss is logged as, after ``train/``."""
        return f"{self.name}_loss" if self.name else "loss"

    def step(self, networks: Any, batch: Any, noise: Any) -> Metrics:
        """Take one gradient step and return what to log, without waiting for the device."""
        loss, metrics = self.evaluate(networks, batch, noise)
        self.descend(loss)
        return {self.loss_name: loss.detach(), **metrics}

    def evaluate(self, networks: Any, batch: Any, noise: Any) -> tuple[th.Tensor, Metrics]:
        """What the loss returns.

        :raises TypeError: if that is not a scalar and scalars to log; names the loss and what is none
        """
        result = self.loss(networks, batch, noise)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise TypeError(f"{self._called} returns no pair of a scalar tensor and a dictionary of what to log.")
        for name, value in {"its loss": result[0], **result[1]}.items():
            if not isinstance(value, th.Tensor) or value.numel() != 1:
                is_tensor = isinstance(value, th.Tensor)
                shown = f"of shape {tuple(value.shape)}" if is_tensor else f"the {type(value).__name__} {value}"
                raise TypeError(f"{self._called} returns scalar tensors: {name!r} is {shown}.")
        return result

    @property
    def _called(self) -> str:
        return f"{getattr(self.loss, '__qualname__', type(self.loss).__name__)}()"

    def descend(self, loss: th.Tensor) -> None:
        """Let the optimiser take its step against the gradient of a loss."""
        # Only the update's own parameters: the actor's loss passes through the critics, whose weight gradients nobody
        # would read.
        if parameters := self.parameters:
            gradients = th.autograd.grad(loss, parameters, allow_unused=True)
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    # What is frozen by now would go on by its last gradient.
                    parameter.grad = None
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
                # As backward() would.
                for hook in list((parameter._post_accumulate_grad_hooks or {}).values()) if gradient is not None else ():
                    hook(parameter)
            if self.max_grad_norm is not None:
                th.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            self.optimizer.step()


def batch_elementwise_steps(optimizer: th.optim.Optimizer) -> None:
    """Let Adam step all tensors together where torch would take them one by one (its default on a CPU).

    The elementwise operations, and so the resulting bits, are the same; only Python's share of the time shrinks. An
    optimiser that is not Adam, or for which the user has chosen an implementation, is left alone.
    """
    if type(optimizer) in (th.optim.Adam, th.optim.AdamW):
        for group in optimizer.param_groups:
            if len(group["params"]) > 1 and group["foreach"] is None and group["fused"] is None:
                group["foreach"] = True


def move_towards(targets: list[th.Tensor], sources: list[th.Tensor], tau: float) -> None:
    """Polyak averaging in place, ``target = (1 - tau) target + tau source``, all tensors together; SB3's bits.

    :param targets: parameters of the target networks
    :param sources: parameters they follow, in the same order
    :param tau: in [0, 1]; 1 copies
    """
    with th.no_grad():
        th._foreach_mul_(targets, 1 - tau)
        th._foreach_add_(targets, sources, alpha=tau)


def bonus_metrics(bonus: th.Tensor, is_bounded: th.Tensor) -> Metrics:
    """The mean of a Munchausen bonus (reward units) and the share of the batch for which its bound is reached.

    :param bonus: after the bound, before its weight
    :param is_bounded: where the bound is reached
    """
    return {"munchausen_bonus": bonus.mean(), "munchausen_clip_fraction": is_bounded.float().mean()}


class MetricsMean:
    """Means over the gradient steps of one ``train`` call, fetched from the device in one transfer at the end."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._rows: list[th.Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, metrics: Metrics) -> None:
        """Keep one gradient step's scalars; every step of a call logs the same names."""
        self._names = tuple(metrics)
        self._rows.append(th.stack([value.detach().reshape(()) for value in metrics.values()]))

    def fetch(self, since: int = 0) -> dict[str, float]:
        """Mean of every scalar, in float64 as ``np.mean`` over Python floats is.

        :param since: how many of the first gradient steps to leave out
        """
        if not self._rows:
            return {}
        return dict(zip(self._names, th.stack(self._rows[since:]).cpu().double().mean(dim=0).tolist(), strict=True))
