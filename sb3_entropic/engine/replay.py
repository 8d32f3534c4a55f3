"""Replay buffers whose transitions are rows of one block of memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import torch as th
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sb3_entropic.engine.place import Place
from sb3_entropic.engine.trace import Tensors

FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
WORD = np.dtype(np.float32)


class PackedReplay:
    """The transitions of several of SB3's replay buffers, a transition a row.

    A batch of all buffers is one gather of whole rows, instead of one for each field of each buffer. The buffers go on
    to work by themselves: their arrays become views of the rows. Memory is ``n_rows * row_bytes`` for each buffer,
    taken as it fills.

    On a GPU the rows are once more in its memory, where batches are gathered, if they fit. What is added to the buffers gets
    there, whoever adds it, unless it is more than a buffer at once; what is changed in older rows does not.

    :param buffers: of one shape; what they hold is kept
    :param place: where batches are read
    """

    def __init__(self, buffers: list[ReplayBuffer], place: Place | None = None):
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
        self._views: list[dict[str, np.ndarray]] = []
        for buffer, block in zip(buffers, rows, strict=True):
            self._views.append({})
            for name, words in self._words.items():
                array = getattr(buffer, name)
                shape = array.shape[2:]
                view = block[..., words].view(array.dtype)[..., : math.prod(shape)].reshape(array.shape)
                view[: buffer.size()] = array[: buffer.size()]
                setattr(buffer, name, view)
                self._views[-1][name] = view
        self._buffers = buffers
        self._rows = th.from_numpy(rows).view(-1, width)
        self._rows_of_one = first.buffer_size * first.n_envs
        self._place, self._on_gpu = place or Place(), None
        if self._place.copies:
            with suppress(th.OutOfMemoryError):
                self._on_gpu = _RowsOnGpu(self._rows, buffers, self._place)
        # Rewards and flags are columns in a batch.
        self._fields = {name: (getattr(first, name).shape[2:] or (1,), getattr(first, name).dtype) for name in FIELDS}

    def follow(self, which: Iterable[int]) -> bool:
        """Take over arrays that were put in the place of the views; ``False`` if they are not like these, or are on a GPU.

        :param which: of the buffers
        """
        for i in which:
            for name, view in self._views[i].items():
                array = getattr(self._buffers[i], name)
                if array is view:
                    continue
                if self._on_gpu is not None or array.shape != view.shape or array.dtype != view.dtype:
                    return False
                view[:] = array
                setattr(self._buffers[i], name, view)
        return True

    def wrote(self, steps: int) -> None:
        """Note that every buffer has been given so many steps more."""
        if self._on_gpu is not None:
            self._on_gpu.written += steps

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
        found = self._select(rows)
        return {name: self._field(name, found) for name in FIELDS}

    def _select(self, rows: np.ndarray) -> th.Tensor:
        """Whole rows where batches are read, of any shape of positions."""
        chosen = th.from_numpy(rows.ravel())
        if self._on_gpu is None:
            (found,) = self._place.inputs("batch", [self._rows.index_select(0, chosen)])
        else:
            found = self._on_gpu.select(chosen)
        return found.view(*rows.shape, -1)

    def _field(self, name: str, found: th.Tensor) -> th.Tensor:
        shape, dtype = self._fields[name]
        values = found[..., self._words[name]]
        if dtype != WORD:
            values = values.view(_torch_dtype(dtype))[..., : math.prod(shape)]
        return values.unflatten(-1, shape) if len(shape) > 1 else values


class PackedNSteps(PackedReplay):
    """The same of buffers of n-step returns: a transition leads from its state to that of n steps later."""

    def gather(self, rows: np.ndarray) -> Tensors:
        """See :class:`PackedReplay`; rewards are returns up to where the bootstrap value is that ``discounts`` weigh."""
        first = self._buffers[0]
        n_steps, n_envs, size = first.n_steps, first.n_envs, first.buffer_size
        begins = np.arange(len(rows))[:, None] * self._rows_of_one
        step, env = np.divmod(rows - begins, n_envs)
        steps = (step[..., None] + np.arange(n_steps)) % size
        path = begins[..., None] + steps * n_envs + env[..., None]
        rewards, dones, timeouts = (self._column(name)[path] for name in ("rewards", "dones", "timeouts"))
        # What follows the newest step is the oldest one, of another episode.
        newest = np.array([(buffer.pos - 1) % size for buffer in self._buffers])[:, None, None]
        ends = (dones != 0) | (timeouts != 0) | (steps == newest)
        last = np.where(ends.any(axis=-1), ends.argmax(axis=-1), n_steps - 1)
        # In SB3's precision, for its bits.
        gammas = np.array([buffer.gamma for buffer in self._buffers], dtype=WORD)[:, None, None]
        weights = gammas ** np.arange(n_steps, dtype=WORD) * (np.arange(n_steps) <= last[..., None])
        returns = (rewards * weights).sum(axis=-1, keepdims=True)
        discounts = gammas ** (last[..., None] + 1).astype(WORD)
        end = np.take_along_axis(path, last[..., None], axis=-1)[..., 0]
        found_first, found_last = self._select(np.stack([rows, end]))
        batch = {name: self._field(name, found_first) for name in ("observations", "actions")}
        batch |= {name: self._field(name, found_last) for name in ("next_observations", "dones", "timeouts")}
        batch["rewards"], batch["discounts"] = self._place.inputs("returns", [*map(th.from_numpy, (returns, discounts))])
        return batch

    def _column(self, name: str) -> np.ndarray:
        return self._rows.numpy()[:, self._words[name].start].view(self._fields[name][1])


def pack(buffers: list[ReplayBuffer], place: Place | None = None) -> PackedReplay:
    """Take replay buffers over, of transitions or of n-step returns; see :class:`PackedReplay`."""
    return (PackedNSteps if isinstance(buffers[0], NStepReplayBuffer) else PackedReplay)(buffers, place)


class _RowsOnGpu:
    """Rows of replay buffers once more in a GPU's memory, copied as they are written.

    :param rows: of all buffers, one after the other
    :param buffers: that write them
    """

    def __init__(self, rows: th.Tensor, buffers: list[ReplayBuffer], place: Place):
        self._rows, self._buffers, self._place = rows, buffers, place
        self._copy = th.zeros_like(rows, device=place.device)
        self._found = rows.new_zeros(0, rows.shape[1], device=place.device)
        self.written = 0
        """How many steps every buffer has been given since the last copy, at least."""
        self._ends = [buffer.pos for buffer in buffers]
        for index, buffer in enumerate(buffers):
            begin = index * buffer.buffer_size * buffer.n_envs
            filled = slice(begin, begin + buffer.size() * buffer.n_envs)
            self._copy[filled] = rows[filled]

    def select(self, chosen: th.Tensor) -> th.Tensor:
        """Those rows, in the same memory each time."""
        new = self._rows_behind()
        given = [chosen, new, self._rows[new]] if len(new) else [chosen]
        chosen, *written = self._place.inputs(f"{len(new)} rows", given)
        if written:
            self._copy.index_copy_(0, *written)
        if len(chosen) != len(self._found):
            self._found = self._found.new_empty(len(chosen), self._copy.shape[1])
        return th.index_select(self._copy, 0, chosen, out=self._found)

    def _rows_behind(self) -> th.Tensor:
        """Positions of the rows that are not copied yet, which they are then taken to be."""
        found, at_least, self.written = [], self.written, 0
        for index, buffer in enumerate(self._buffers):
            # A callback may have added some, too.
            added = max((buffer.pos - self._ends[index]) % buffer.buffer_size, min(at_least, buffer.buffer_size))
            self._ends[index] = buffer.pos
            steps = (buffer.pos - np.arange(1, added + 1)) % buffer.buffer_size
            rows = (steps[:, None] * buffer.n_envs + np.arange(buffer.n_envs)).ravel()
            found.append(rows + index * buffer.buffer_size * buffer.n_envs)
        return th.from_numpy(np.concatenate(found))


def _torch_dtype(dtype: np.dtype) -> th.dtype:
    return th.from_numpy(np.empty(0, dtype)).dtype
