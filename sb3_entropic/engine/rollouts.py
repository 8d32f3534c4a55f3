"""The rollouts of several models as rows of one table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch as th

from sb3_entropic.engine.trace import Tensors

SOURCES = {"old_values": "values", "old_log_prob": "log_probs"}
"""What fields of a minibatch are called in the rollout buffer, where that is another name."""

ROW = np.float32
"""What a minibatch is made of, as in SB3."""


class StackedRollouts:
    """The steps of several of SB3's rollout buffers as rows, of which a minibatch is one gather.

    :param buffers: of one shape
    :param samples: the class of a minibatch, which names its fields
    """

    def __init__(self, buffers: list[Any], samples: type):
        first, self._words, width = buffers[0], {}, 0
        shapes = {"observations": first.obs_shape, "actions": (first.action_dim,)}
        for name in samples._fields:
            shape = shapes.get(name, ())
            self._words[name] = (slice(width, width + math.prod(shape)), shape)
            width += math.prod(shape)
        self.n_rows = first.buffer_size * first.n_envs
        self._buffers = buffers
        self._rows = np.zeros((len(buffers), self.n_rows, width), dtype=ROW)

    def fill(self, index: int) -> None:
        """Take over the rollout of one buffer, its steps in the order in which SB3 draws from them."""
        buffer = self._buffers[index]
        for name, (words, _) in self._words.items():
            array = getattr(buffer, SOURCES.get(name, name))
            # Whoever has asked the buffer for its steps has had it put them in this order.
            in_order = array if buffer.generator_ready else array.swapaxes(0, 1)
            self._rows[index, :, words] = in_order.reshape(self.n_rows, -1)

    def gather(self, rows: np.ndarray) -> Tensors:
        """Minibatches of all buffers.

        :param rows: ``(n_buffers, batch)``
        :return: by the names of a minibatch's fields, ``(n_buffers, batch, ...)``
        """
        offsets = self.n_rows * np.arange(len(rows))[:, None]
        table = th.from_numpy(self._rows).view(-1, self._rows.shape[2])
        found = table.index_select(0, th.from_numpy((rows + offsets).ravel())).view(*rows.shape, -1)
        return {name: found[..., words].reshape(*rows.shape, *shape) for name, (words, shape) in self._words.items()}
