"""Value iteration and its entropy-regularised relatives on finite MDPs, with exact or sampled backups.

The gap-increasing family is one operator (:func:`gap_increasing_operator`); ``m`` is the value of a state::

    munchausen_alpha   m           temperature   scheme
    0                  max                       value iteration
    0                  lse         > 0           soft value iteration
    alpha              max                       Advantage Learning
    alpha              lse         > 0           Munchausen value iteration (M-VI)
    alpha              mellowmax   > 0           conservative value iteration (CVI): M-VI up to a constant
    1                  boltzmann   > 0           Dynamic Policy Programming (DPP)
    1                  lse         > 0           DPP-L

Mirror descent, dual averaging and momentum keep a second table. With a weight of the KL ``kl_coef`` and one of the entropy
``t`` the first two go through the policies of M-VI at temperature ``kl_coef + t`` and
``munchausen_alpha = kl_coef / (kl_coef + t)``: one family, exactly. Under sampled backups, with ``munchausen_alpha``
near 1 and a low temperature, rounding can grow exponentially: there two forms of one algorithm stay together only for some
hundred iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, get_args

import torch as th

from sb3_entropic import operators
from sb3_entropic.checks import check_at_least_zero, check_choice, check_clip, check_fraction, check_positive
from sb3_entropic.errors import UserError
from sb3_entropic.operators import SoftValue, boltzmann_policy, regularised_advantage, scaled_log_softmax
from sb3_entropic.tabular.mdp import FiniteMDP

Backup = Callable[[th.Tensor], th.Tensor]
"""From values ``(..., S)`` to ``r + gamma P v``, ``(..., S, A)``, exact or sampled."""

State = tuple[th.Tensor, ...]


@dataclass(frozen=True)
class Solution:
    """What a solver ends with.

    :param values: the last table, ``(..., S, A)``: action values, or what the scheme has in their place (preferences of
        DPP and CVI, averages of MoVI and dual averaging)
    :param policy: the policy of that table, ``(..., S, A)``
    :param iterations: after how many iterations an error was recorded, ``(n_records,)``
    :param errors: ``||q* - q_pi||_1 / ||q*||_1`` of the policy after each of these, ``(n_records, ...)``; ``q_pi`` is exact
        and without bonuses, ``q*`` that of the unregularised MDP; not a number where ``q*`` is 0 everywhere
    """

    values: th.Tensor
    policy: th.Tensor
    iterations: th.Tensor
    errors: th.Tensor


class Scheme(NamedTuple):
    """An iteration: its tables at the start, from one iteration to the next, and the policy they stand for.

    :param start: from the initial action values to the tables
    :param step: ``(backup, k, *tables) -> tables`` after iteration ``k = 0, 1, ...``
    :param policy: ``(k, *tables) -> policy`` after ``k`` iterations
    """

    start: Callable[[th.Tensor], State]
    step: Callable[..., State]
    policy: Callable[..., th.Tensor]


def iterate(
    mdp: FiniteMDP,
    scheme: Scheme,
    n_iterations: int,
    *,
    initial_q: th.Tensor | None = None,
    generator: th.Generator | None = None,
    record: Collection[int] | None = None,
) -> Solution:
    """Run a scheme; the keyword arguments are the ``options`` of every solver here.

    :param mdp: one MDP or a batch
    :param scheme: what to run
    :param n_iterations: >= 1
    :param initial_q: where to start, ``(..., S, A)``; ``None`` for 0
    :param generator: ``None`` for exact backups; else every backup sees one next state for each ``(s, a)``, drawn from it
    :param record: after which iterations to compute the error, from 1 to ``n_iterations``; each costs a linear solve.
        ``None`` for the last one alone
    :raises UserError: if ``n_iterations`` or ``record`` is out of range, or ``initial_q`` has another shape
    """
    record = {n_iterations} if record is None else set(record)
    if n_iterations < 1 or not record <= set(range(1, n_iterations + 1)):
        raise UserError(f"record={sorted(record)} must lie between 1 and n_iterations={n_iterations}.")
    backup = mdp.backup if generator is None else partial(mdp.sampled_backup, generator=generator)
    best = optimal_q(mdp)
    tables = scheme.start(th.zeros_like(mdp.rewards) if initial_q is None else mdp.as_table("initial_q", initial_q))
    errors = []
    for k in range(n_iterations):
        tables = scheme.step(backup, k, *tables)
        if k + 1 in record:
            _, q = mdp.evaluate(scheme.policy(k + 1, *tables))
            errors.append((best - q).abs().sum((-2, -1)) / best.abs().sum((-2, -1)))
    return Solution(
        values=tables[0],
        policy=scheme.policy(n_iterations, *tables),
        iterations=th.tensor(sorted(record), dtype=th.long),
        errors=th.stack(errors) if errors else mdp.rewards.new_empty(0, *mdp.rewards.shape[:-2]),
    )


MOST_POLICIES = 1000
"""Of a policy iteration, which takes a few."""


def optimal_q(mdp: FiniteMDP, temperature: float = 0.0) -> th.Tensor:
    """The optimal action values to rounding, by policy iteration: ``q*``, or with a temperature the soft ``q*``.

    The soft ones satisfy ``q = r + gamma P log_sum_exp(q)``.

    :param mdp: one MDP or a batch
    :param temperature: of the entropy bonus in reward units, >= 0
    :return: ``(..., S, A)``
    :raises ValueError: if ``temperature`` is out of range
    :raises RuntimeError: if rounding keeps the iteration from ending
    """
    check_at_least_zero("temperature", temperature)
    # Rounding is relative to the sums that values are made of, which are larger where rewards cancel.
    sums_of = FiniteMDP(mdp.transitions, mdp.rewards.abs(), mdp.gamma)
    q = th.zeros_like(mdp.rewards)
    # A policy iteration alone would solve a system for every step that a reward is away.
    for _ in range(mdp.n_states):
        q = mdp.backup(operators.log_sum_exp(q, temperature) if temperature > 0 else q.amax(-1))
    change = th.full(q.shape[:-2], th.inf, dtype=th.float64)
    ended = th.zeros_like(change, dtype=th.bool)
    rounding = 1e-9 + 1e-14 / (1 - mdp.gamma)
    # Where no reward can be reached a value is nothing but rounding, and goes on changing with which of equals is taken.
    largest = sums_of.rewards.amax((-2, -1), keepdim=True) + temperature * math.log(mdp.n_actions)
    nothing = 1e-15 / (1 - mdp.gamma) * largest
    for _ in range(MOST_POLICIES):
        policy = boltzmann_policy(q, temperature) if temperature > 0 else _greedy(q)
        _, improved = mdp.evaluate(policy, temperature)
        _, size = sums_of.evaluate(policy, temperature)
        moved = (improved - q).abs()
        relative = th.where(moved <= nothing, 0.0, moved / th.maximum(size, nothing))
        previous, change, q = change, relative.amax((-2, -1)), improved
        # Near the end the change shrinks quadratically; where it no longer does, it is rounding.
        ended |= (change == 0) | ((change <= rounding) & (change >= 0.5 * previous))
        if ended.all():
            return q
    raise RuntimeError(
        f"Policy iteration has not ended after {MOST_POLICIES:,} policies: values still change by {change.max():.1g} of "
        "their size."
    )


def gap_increasing_operator(
    backup: Backup,
    values: th.Tensor,
    temperature: float,
    munchausen_alpha: float,
    soft_value: SoftValue,
    munchausen_clip: float | None = None,
) -> th.Tensor:
    """``r + gamma P m q + munchausen_alpha * max(q - m q, munchausen_clip)``, once (arXiv 1512.04860, 2007.14430).

    :param backup: :meth:`FiniteMDP.backup <sb3_entropic.tabular.mdp.FiniteMDP.backup>`, or any other ``v -> r + gamma P v``
    :param values: ``q``, ``(..., S, A)``
    :param temperature: reward units, > 0; ``soft_value="max"`` does not read it
    :param munchausen_alpha: weight of the advantage, in [0, 1]
    :param soft_value: which ``m``, see :func:`sb3_entropic.operators.soft_value`
    :param munchausen_clip: lower bound of the advantage before it is weighted, reward units, < 0; ``None`` for no bound.
        There is no upper one: for ``lse`` and ``max`` the advantage is never above 0, else it may be
    :return: ``(..., S, A)``
    """
    advantage = regularised_advantage(values, temperature, soft_value)
    if munchausen_clip is not None:
        advantage = advantage.clamp(min=munchausen_clip)
    return backup(operators.soft_value(values, temperature, soft_value)) + munchausen_alpha * advantage


def gap_increasing_iteration(
    mdp: FiniteMDP,
    temperature: float,
    munchausen_alpha: float,
    soft_value: SoftValue,
    n_iterations: int,
    munchausen_clip: float | None = None,
    **options: Any,
) -> Solution:
    """Repeat :func:`gap_increasing_operator`; the policy is ``softmax(q / temperature)``, for ``max`` the greedy one.

    :param mdp: one MDP or a batch
    :param temperature: as in the operator
    :param munchausen_alpha: as in the operator
    :param soft_value: as in the operator
    :param n_iterations: >= 1
    :param munchausen_clip: as in the operator
    :param options: see :func:`iterate`
    :raises ValueError: if ``temperature``, ``munchausen_alpha``, ``soft_value`` or ``munchausen_clip`` is out of range
    """
    check_choice("soft_value", soft_value, get_args(SoftValue))
    if soft_value != "max":
        check_positive("temperature", temperature)
    check_fraction("munchausen_alpha", munchausen_alpha)
    check_clip(munchausen_clip)

    def step(backup: Backup, _: int, q: th.Tensor) -> State:
        return (gap_increasing_operator(backup, q, temperature, munchausen_alpha, soft_value, munchausen_clip),)

    def policy(_: int, q: th.Tensor) -> th.Tensor:
        return _greedy(q) if soft_value == "max" else boltzmann_policy(q, temperature)

    return iterate(mdp, Scheme(lambda q: (q,), step, policy), n_iterations, **options)


def value_iteration(mdp: FiniteMDP, n_iterations: int, **options: Any) -> Solution:
    """``q <- r + gamma P max q``; with a generator, approximate value iteration (AVI), the tabular DQN.

    :param mdp: one MDP or a batch
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, 0.0, 0.0, "max", n_iterations, **options)


def soft_value_iteration(mdp: FiniteMDP, temperature: float, n_iterations: int, **options: Any) -> Solution:
    """``q <- r + gamma P lse(q)``: a ``gamma``-contraction to the soft optimal values.

    :param mdp: one MDP or a batch
    :param temperature: reward units, > 0
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, temperature, 0.0, "lse", n_iterations, **options)


def munchausen_value_iteration(
    mdp: FiniteMDP,
    temperature: float,
    munchausen_alpha: float,
    n_iterations: int,
    munchausen_clip: float | None = None,
    **options: Any,
) -> Solution:
    """M-VI: ``q <- r + munchausen_alpha temperature log pi + gamma P <pi, q - temperature log pi>`` (arXiv 2007.14430).

    For ``munchausen_alpha < 1`` the policy tends to the soft optimal one at ``(1 - munchausen_alpha) * temperature``, and
    the gaps between actions to ``1 / (1 - munchausen_alpha)`` times those of its soft values.

    :param mdp: one MDP or a batch
    :param temperature: reward units, > 0
    :param munchausen_alpha: in [0, 1]; at 1 and without a clip the table diverges while the policy converges
    :param n_iterations: >= 1
    :param munchausen_clip: lower bound of ``temperature log pi`` in the bonus, reward units, < 0; ``None`` for no bound
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, temperature, munchausen_alpha, "lse", n_iterations, munchausen_clip, **options)


def conservative_value_iteration(
    mdp: FiniteMDP, temperature: float, munchausen_alpha: float, n_iterations: int, **options: Any
) -> Solution:
    """CVI: M-VI with the mean in the place of the sum over actions (Kozuno et al., AISTATS 2019).

    From the same start its table is M-VI's plus
    ``(munchausen_alpha - gamma) (1 - gamma^k) / (1 - gamma) * temperature log A`` after ``k`` iterations.

    :param mdp: one MDP or a batch
    :param temperature: reward units, > 0; Kozuno's ``1 / beta``
    :param munchausen_alpha: in [0, 1]; Kozuno's ``alpha``
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, temperature, munchausen_alpha, "mellowmax", n_iterations, **options)


def dynamic_policy_programming(
    mdp: FiniteMDP, temperature: float, n_iterations: int, soft_value: SoftValue = "boltzmann", **options: Any
) -> Solution:
    """DPP: ``psi <- psi + r + gamma P m psi - m psi`` (Azar et al., JMLR 13, 2012).

    The preferences of every action but the best fall without end, each by its gap in every iteration; the state's value
    ``m psi`` tends to ``V*``.

    :param mdp: one MDP or a batch
    :param temperature: reward units, > 0; Azar's ``1 / eta``
    :param n_iterations: >= 1
    :param soft_value: ``"boltzmann"`` as analysed in the paper, ``"lse"`` for DPP-L
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, temperature, 1.0, soft_value, n_iterations, **options)


def advantage_learning(mdp: FiniteMDP, munchausen_alpha: float, n_iterations: int, **options: Any) -> Solution:
    """``q <- r + gamma P max q + munchausen_alpha * (q - max q)`` (arXiv 1512.04860).

    The gaps between actions tend to ``1 / (1 - munchausen_alpha)`` times the optimal ones, with the optimal policy.

    :param mdp: one MDP or a batch
    :param munchausen_alpha: in [0, 1]
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    """
    return gap_increasing_iteration(mdp, 0.0, munchausen_alpha, "max", n_iterations, **options)


def soft_policy_iteration(
    mdp: FiniteMDP,
    temperature: float,
    n_iterations: int,
    *,
    initial_q: th.Tensor | None = None,
    record: Collection[int] | None = None,
) -> Solution:
    """Evaluate ``softmax(q / temperature)`` exactly, entropy included, and repeat.

    This is Newton's method on the soft Bellman equation: values never fall, and near the end the error is squared.

    :param mdp: one MDP or a batch
    :param temperature: reward units, > 0
    :param n_iterations: >= 1
    :param initial_q: see :func:`iterate`
    :param record: see :func:`iterate`
    :raises ValueError: if ``temperature`` is out of range
    """
    check_positive("temperature", temperature)

    def step(_backup: Backup, _: int, q: th.Tensor) -> State:
        return (mdp.evaluate(boltzmann_policy(q, temperature), temperature)[1],)

    scheme = Scheme(lambda q: (q,), step, lambda _, q: boltzmann_policy(q, temperature))
    return iterate(mdp, scheme, n_iterations, initial_q=initial_q, record=record)


def momentum_value_iteration(mdp: FiniteMDP, n_iterations: int, **options: Any) -> Solution:
    """MoVI: ``q <- r + gamma P q(greedy(h))`` with ``h`` the average of all ``q`` so far (arXiv 1910.09322).

    :param mdp: one MDP or a batch
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    :return: its ``values`` are ``h``
    """

    def step(backup: Backup, k: int, h: th.Tensor, q: th.Tensor) -> State:
        q = backup((_greedy(h) * q).sum(-1))
        # h_0 = q_0 is the average of one table already.
        return th.lerp(h, q, 1 / (k + 2)), q

    return iterate(mdp, Scheme(lambda q: (q, q), step, lambda _, h, q: _greedy(h)), n_iterations, **options)


def mirror_descent_value_iteration(
    mdp: FiniteMDP, kl_coef: float, temperature: float, n_iterations: int, **options: Any
) -> Solution:
    """MD-VI: each policy is the best of ``<pi, q> - kl_coef KL(pi || previous) + temperature H(pi)``.

    The backup is of the same regularised value; the first policy's predecessor is uniform (arXiv 2003.14089).

    :param mdp: one MDP or a batch
    :param kl_coef: reward units, >= 0; the paper's ``lambda``. At 0 this is soft value iteration
    :param temperature: of the entropy, reward units, >= 0; the paper's ``tau``. One of the two must be > 0
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    :return: its ``values`` are ``q``, not the preferences: the policy is not their softmax
    :raises UserError: if a coefficient is out of range
    """
    _require_regularised(kl_coef, temperature)

    def next_log_policy(q: th.Tensor, log_policy: th.Tensor) -> th.Tensor:
        return th.log_softmax((q + kl_coef * log_policy) / (kl_coef + temperature), dim=-1)

    def step(backup: Backup, _: int, q: th.Tensor, previous: th.Tensor) -> State:
        log_policy = next_log_policy(q, previous)
        return backup(_regularised_value(q, log_policy, previous, kl_coef, temperature)), log_policy

    def policy(_: int, q: th.Tensor, previous: th.Tensor) -> th.Tensor:
        return next_log_policy(q, previous).exp()

    return iterate(mdp, Scheme(lambda q: (q, _uniform_log_policy(q)), step, policy), n_iterations, **options)


def dual_averaging_value_iteration(
    mdp: FiniteMDP, kl_coef: float, temperature: float, n_iterations: int, **options: Any
) -> Solution:
    """DA-VI: the policy is a softmax of the average of all ``q`` (arXiv 2003.14089).

    Without entropy the average ``h`` is the plain one and the softmax' temperature ``kl_coef / (k + 1)``; with it ``h``
    is a moving average of factor ``kl_coef / (kl_coef + temperature)`` that starts at 0, and the temperature is constant.
    The policies and values are those of :func:`mirror_descent_value_iteration` (proposition 1).

    :param mdp: one MDP or a batch
    :param kl_coef: reward units, >= 0; the paper's ``lambda``
    :param temperature: of the entropy, reward units, >= 0; the paper's ``tau``. One of the two must be > 0
    :param n_iterations: >= 1
    :param options: see :func:`iterate`
    :return: its ``values`` are ``h``
    :raises UserError: if a coefficient is out of range
    """
    _require_regularised(kl_coef, temperature)
    weight_of_new = temperature / (kl_coef + temperature)

    def average(k: int, h: th.Tensor, q: th.Tensor) -> th.Tensor:
        return th.lerp(h, q, weight_of_new if temperature > 0 else 1 / (k + 1))

    def log_policy_of(k: int, h: th.Tensor) -> th.Tensor:
        current = temperature if temperature > 0 else kl_coef / (k + 1)
        return scaled_log_softmax(h, current) / current

    def step(backup: Backup, k: int, h: th.Tensor, q: th.Tensor, previous: th.Tensor) -> State:
        log_policy = log_policy_of(k, h)
        q = backup(_regularised_value(q, log_policy, previous, kl_coef, temperature))
        return average(k + 1, h, q), q, log_policy

    scheme = Scheme(
        start=lambda q: (average(0, th.zeros_like(q), q), q, _uniform_log_policy(q)),
        step=step,
        policy=lambda k, h, q, previous: log_policy_of(k, h).exp(),
    )
    return iterate(mdp, scheme, n_iterations, **options)


def _greedy(q: th.Tensor) -> th.Tensor:
    """All probability on the first of the best actions, ``(..., S, A)``."""
    return th.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(q.dtype)


def _uniform_log_policy(q: th.Tensor) -> th.Tensor:
    return th.log_softmax(th.zeros_like(q), dim=-1)


def _regularised_value(
    q: th.Tensor, log_policy: th.Tensor, previous: th.Tensor, kl_coef: float, temperature: float
) -> th.Tensor:
    """``<pi, q> - kl_coef KL(pi || previous) + temperature H(pi)``, ``(..., S)``."""
    policy = log_policy.exp()
    return (policy * (q - kl_coef * (log_policy - previous) - temperature * log_policy)).sum(-1)


def _require_regularised(kl_coef: float, temperature: float) -> None:
    if not (kl_coef >= 0 and temperature >= 0 and 0 < kl_coef + temperature < math.inf):
        raise UserError(
            f"kl_coef={kl_coef:g} and temperature={temperature:g} must be finite, at least 0, and one of them above."
        )
