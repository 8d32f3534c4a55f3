"""Forward passes that several losses of a gradient step share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th


class SharedForwards:
    """Makes each forward pass of a gradient step once."""

    def __init__(self) -> None:
        self._results: dict[tuple[Any, ...], tuple[Any, bool, Any]] = {}

    def once(self, forward: Callable[[], Any], *inputs: Any) -> Any:
        """The result of a forward on these inputs, made again only where it is now to have a gradient and had none.

        :param forward: makes it
        :param inputs: what identifies it, by identity
        """
        key = tuple(map(id, inputs))
        _, has_gradient, result = self._results.get(key, (None, False, None))
        if result is None or (th.is_grad_enabled() and not has_gradient):
            result = forward()
            # The inputs are kept with it, so that their ids stay theirs.
            self._results[key] = (inputs, th.is_grad_enabled(), result)
        return result
