"""Finite discounted Markov decision processes in float64, one or a whole batch of them.

Shapes: ``S`` states, ``A`` actions; ``...`` stands for any leading batch dimensions, so that a hundred MDPs of one size
are solved by the same few tensor operations as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch as th

from sb3_entropic.checks import check_at_least_zero, check_count
from sb3_entropic.errors import UserError


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite MDP, or a batch of them: known transitions and rewards, discount below 1, no terminal states.

    The end of an episode is written as an absorbing state with reward 0.

    :param transitions: ``P(s'|s, a)``, tensor or array, ``(..., S, A, S)``; sums within 1e-6 of 1 are normalised
    :param rewards: expected reward of ``(s, a)``, tensor or array, ``(..., S, A)``
    :param gamma: discount, in [0, 1)
    :raises UserError: if shapes disagree, a row of ``transitions`` is no distribution, a reward is not finite or ``gamma``
        is out of range
    """

    transitions: th.Tensor
    rewards: th.Tensor
    gamma: float

    def __post_init__(self) -> None:
        for name in ("transitions", "rewards"):
            # A copy: the arrays stay the caller's to write to.
            object.__setattr__(self, name, th.as_tensor(getattr(self, name), dtype=th.float64).detach().clone())
        _validate(self.transitions, self.rewards, self.gamma)
        # What was rounded to float32 sums to 1 only within 1e-7.
        object.__setattr__(self, "transitions", self.transitions / self.transitions.sum(-1, keepdim=True))

    @property
    def n_states(self) -> int:
        """``S``."""
        return self.rewards.shape[-2]

    @property
    def n_actions(self) -> int:
        """``A``."""
        return self.rewards.shape[-1]

    @cached_property
    def _cumulative(self) -> th.Tensor:
        cumulative = self.transitions.cumsum(-1)
        # Exactly 1 at the end: a draw just below 1 must not fall off it.
        return cumulative / cumulative[..., -1:]

    def as_table(self, name: str, values: th.Tensor | np.ndarray) -> th.Tensor:
        """Numbers of every ``(s, a)`` in float64.

        :param name: what they are, for the message
        :param values: ``(..., S, A)``
        :raises UserError: if they have another shape
        """
        table = th.as_tensor(values, dtype=th.float64)
        if table.shape[-2:] != self.rewards.shape[-2:]:
            shape = "(..., {}, {})".format(*self.rewards.shape[-2:])
            raise UserError(f"{name} of shape {tuple(table.shape)} is not of this MDP: it must be {shape}.")
        return table

    def backup(self, values: th.Tensor) -> th.Tensor:
        """The expected return of acting once and then getting ``values``: ``r + gamma P v``.

        :param values: ``(..., S)``
        :return: ``(..., S, A)``
        """
        return self.rewards + self.gamma * th.einsum("...sat,...t->...sa", self.transitions, values)

    def sampled_backup(self, values: th.Tensor, generator: th.Generator) -> th.Tensor:
        """:meth:`backup` with one sampled next state for every ``(s, a)``: unbiased, and independent in each call.

        :param values: ``(..., S)``, of the MDP's own batch shape
        :param generator: where the draws come from
        :return: ``(..., S, A)``
        """
        uniform = th.rand(*self.rewards.shape, 1, dtype=th.float64, generator=generator)
        next_states = th.searchsorted(self._cumulative, uniform, right=True)
        next_values = values.gather(-1, next_states.flatten(-3)).reshape(self.rewards.shape)
        return self.rewards + self.gamma * next_values

    def evaluate(self, policy: th.Tensor, temperature: float = 0.0) -> tuple[th.Tensor, th.Tensor]:
        """The exact values of a policy, by solving ``v = r_pi + temperature * H(pi) + gamma P_pi v``.

        :param policy: probabilities, ``(..., S, A)``
        :param temperature: weight of the entropy bonus in reward units, >= 0
        :return: ``v``, ``(..., S)``, and ``q = r + gamma P v``, ``(..., S, A)``; the bonus of the first step is in ``v`` alone
        :raises UserError: if ``policy`` has another shape, or is no distribution over actions
        :raises ValueError: if ``temperature`` is out of range
        """
        check_at_least_zero("temperature", temperature)
        policy = self.as_table("policy", policy)
        # What has diverged is no number, and stays none.
        if (policy < -1e-6).any() or ((policy.sum(-1) - 1).abs() > 1e-6).any():
            raise UserError("policy holds what is no distribution: probabilities must be >= 0, and those of a state sum to 1.")
        transitions = th.einsum("...sa,...sat->...st", policy, self.transitions)
        rewards = (policy * self.rewards).sum(-1) + temperature * th.special.entr(policy).sum(-1)
        identity = th.eye(self.n_states, dtype=th.float64)
        values = th.linalg.solve(identity - self.gamma * transitions, rewards.unsqueeze(-1)).squeeze(-1)
        return values, self.backup(values)


def garnet(n_states: int, n_actions: int, branching: int, gamma: float, seed: int, batch: int | None = None) -> FiniteMDP:
    """Random MDPs with ``branching`` next states for each pair and U(0, 1) rewards in a tenth of the states.

    The next states are drawn without replacement and share probabilities cut from [0, 1] at uniform points. The reward
    depends on the state alone; at least one state has one. Those of arXiv 2003.14089, appendix D, have 30 states, 4
    actions, branching 4 and gamma 0.9.

    :param n_states: ``S``
    :param n_actions: ``A``
    :param branching: next states of each ``(s, a)``, from 1 to ``n_states``
    :param gamma: discount, in [0, 1)
    :param seed: of all draws
    :param batch: how many MDPs, as one leading dimension; ``None`` for one without it
    :raises UserError: if ``branching`` is out of range
    """
    if not 1 <= branching <= n_states:
        raise UserError(f"branching={branching} must be from 1 to n_states={n_states}.")
    generator = th.Generator().manual_seed(seed)
    lead = () if batch is None else (batch,)

    def uniform(*shape: int) -> th.Tensor:
        return th.rand(*lead, *shape, dtype=th.float64, generator=generator)

    cuts = uniform(n_states, n_actions, branching - 1).sort(-1).values
    edges = th.nn.functional.pad(th.nn.functional.pad(cuts, (1, 0), value=0.0), (0, 1), value=1.0)
    next_states = uniform(n_states, n_actions, n_states).argsort(-1)[..., :branching]
    transitions = th.zeros(*lead, n_states, n_actions, n_states, dtype=th.float64).scatter(-1, next_states, edges.diff(dim=-1))
    n_rewarded = max(1, round(0.1 * n_states))
    rewarded = uniform(n_states).argsort(-1).argsort(-1) < n_rewarded
    rewards = (rewarded * uniform(n_states)).unsqueeze(-1).expand(*lead, n_states, n_actions)
    return FiniteMDP(transitions, rewards, gamma)


def chain(n_states: int, gamma: float) -> FiniteMDP:
    """A corridor: action 0 steps left, action 1 right, and going right in the last state earns 1 and stays there.

    ``V*(s) = gamma^(n_states - 1 - s) / (1 - gamma)``.

    :param n_states: ``S``
    :param gamma: discount, in [0, 1)
    """
    states = th.arange(n_states)
    next_states = th.stack([(states - 1).clamp(min=0), (states + 1).clamp(max=n_states - 1)], dim=1)
    rewards = th.zeros(n_states, 2)
    rewards[-1, 1] = 1.0
    return FiniteMDP(th.nn.functional.one_hot(next_states, n_states), rewards, gamma)


def gridworld(layout: str | int, gamma: float, slip: float = 0.0) -> FiniteMDP:
    """A grid with four moves: up, right, down, left; each step in a goal cell earns 1, and there every action stays.

    A move into a wall or off the grid stays in its cell. States are numbered row by row, walls left out.

    :param layout: rows of ``.`` (free), ``#`` (wall) and ``G`` (goal), separated by line breaks, or the side of an empty
        square with the goal in its last cell
    :param gamma: discount, in [0, 1)
    :param slip: probability that a move goes to one side of where it should, half to each, in [0, 1]
    :raises UserError: if the map holds another character, its rows differ in length, or ``slip`` is out of range
    :raises ValueError: if the side is no whole number above 0
    """
    if isinstance(layout, int):
        check_count("layout", layout)
        layout = ("." * layout + "\n") * (layout - 1) + "." * (layout - 1) + "G"
    rows = layout.split()
    cells = {(y, x): cell for y, row in enumerate(rows) for x, cell in enumerate(row) if cell != "#"}
    if len({len(row) for row in rows}) != 1 or not cells or not set(cells.values()) <= {".", "G"}:
        raise UserError(f"layout={layout!r} must be rows of equal length, made of '.', '#' and 'G', not all of them walls.")
    if not 0 <= slip <= 1:
        raise UserError(f"slip={slip:g} must be a probability, from 0 to 1.")
    index = {cell: state for state, cell in enumerate(cells)}
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    transitions = np.zeros((len(index), len(moves), len(index)))
    for (y, x), state in index.items():
        reached = [state if cells[y, x] == "G" else index.get((y + dy, x + dx), state) for dy, dx in moves]
        for action in range(4):
            for turn, probability in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
                transitions[state, action, reached[(action + turn) % 4]] += probability
    rewards = np.array([[float(cell == "G")] * len(moves) for cell in cells.values()])
    return FiniteMDP(transitions, rewards, gamma)


def _validate(transitions: th.Tensor, rewards: th.Tensor, gamma: float) -> None:
    shape = tuple(transitions.shape)
    if len(shape) < 3 or shape[-3] != shape[-1] or 0 in shape or tuple(rewards.shape) != shape[:-1]:
        raise UserError(
            f"transitions of shape {shape} and rewards of shape {tuple(rewards.shape)} make no MDP: "
            "they must be (..., S, A, S) and (..., S, A)."
        )
    if not (transitions >= 0).all():
        raise UserError(f"transitions hold {transitions.min():g}, which is no probability: all must be >= 0.")
    sums = transitions.sum(-1)
    if not th.allclose(sums, th.ones_like(sums), rtol=0, atol=1e-6):
        worst = sums.flatten()[(sums - 1).abs().argmax()]
        raise UserError(f"transitions of some (s, a) sum to {worst:.10g}: over the next states they must sum to 1.")
    if not th.isfinite(rewards).all():
        raise UserError("rewards hold a value that is not finite.")
    if not 0 <= gamma < 1:
        raise UserError(f"gamma={gamma:g} must be in [0, 1): at 1 the values of a continuing MDP are infinite.")
