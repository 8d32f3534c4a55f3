"""Replay buffers whose transitions are rows of one block of memory."""

from __future__ import annotations

import math

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_entropic.engine.place import Place
from sb3_entropic.engine.trace import Tensors

FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
WORD = np.dtype(np.float32)


class PackedReplay:
    """The transitions of several of SB3's replay buffers, a transition a row.

    A batch of all buffers is one gather of whole rows, instead of one for each field of each buffer. The buffers go on
    to work by themselves: their arrays become views of the rows. Memory is ``n_rows * row_bytes`` for each buffer,
    taken as it fills.

    :param buffers: of one shape; what they hold is kept
    :param place: where batches are read
    """

    def __init__(self, buffers: list[ReplayBuffer], place: Place | None = None):
        self._place = place or Place()
        first = buffers[0]
        self._words, width = {}, 0
        for name in FIELDS:
            array = getattr(first, name)
            # 8-byte numbers begin at even words.
            begin = width + (width % 2 if array.itemsize > WORD.itemsize else 0)
            width = begin + math.ceil(array[0, 0].nbytes / WORD.itemsize)
            self._words[name] = slice(begin, width)
        width += width % 2
        self.row_bytes = width * WORD.itemsize
        rows = np.zeros((len(buffers), first.buffer_size, first.n_envs, width), dtype=WORD)
        for buffer, block in zip(buffers, rows, strict=True):
            for name, words in self._words.items():
                array = getattr(buffer, name)
                shape = array.shape[2:]
                view = block[..., words].view(array.dtype)[..., : math.prod(shape)].reshape(array.shape)
                view[: buffer.size()] = array[: buffer.size()]
                setattr(buffer, name, view)
        self._buffers = buffers
        self._rows = th.from_numpy(rows).view(-1, width)
        self._rows_of_one = first.buffer_size * first.n_envs
        # Rewards and flags are columns in a batch.
        self._fields = {name: (getattr(first, name).shape[2:] or (1,), getattr(first, name).dtype) for name in FIELDS}

    def draw(self, index: int, batch_size: int) -> np.ndarray:
        """Rows of one buffer's batch, drawn from numpy's global generator as SB3 draws them.

        :param index: of the buffer
        :param batch_size: number of transitions
        """
        buffer = self._buffers[index]
        steps = np.random.randint(0, buffer.size(), size=batch_size)
        # numpy draws nothing where there is nothing to choose from.
        rows = steps if buffer.n_envs == 1 else steps * buffer.n_envs + np.random.randint(0, buffer.n_envs, size=batch_size)
        return rows + index * self._rows_of_one if index else rows

    def gather(self, rows: np.ndarray) -> Tensors:
        """Batches of all buffers.

        :param rows: by :meth:`draw`, ``(n_buffers, batch)``
        :return: by the buffers' names of the fields, ``(n_buffers, batch, ...)``; on a GPU overwritten by the next
        """
        found = self._rows.index_select(0, th.from_numpy(rows.ravel())).view(*rows.shape, -1)
        (found,) = self._place.inputs("batch", [found])
        batch = {}
        for name, (shape, dtype) in self._fields.items():
            values = found[..., self._words[name]]
            if dtype != WORD:
                values = values.view(_torch_dtype(dtype))[..., : math.prod(shape)]
            batch[name] = values.unflatten(-1, shape) if len(shape) > 1 else values
        return batch


def _torch_dtype(dtype: np.dtype) -> th.dtype:
    return th.from_numpy(np.empty(0, dtype)).dtype
