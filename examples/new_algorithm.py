"""An algorithm of your own is its loss: Persistent Advantage Learning in one method (after arXiv 1512.04860).

Its target is the larger of Advantage Learning's and the value of taking the same action again, which it thereby favours. Run
it with

    python examples/new_algorithm.py
    python -m benchmarks run --env CartPole-v1 --import examples.new_algorithm --algos aldqn,examples.new_algorithm:PAL
"""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_entropic import ALDQN, train_seeds
from sb3_entropic.checks import check_fraction, check_scheduled
from sb3_entropic.cli import ArgumentParser, positive
from sb3_entropic.signature import extends
from sb3_entropic.temperature import Scheduled, as_scheduled, at_progress
from sb3_entropic.updates import Metrics
from sb3_entropic.value_based.networks import Fractions, ValueNetworks


@extends(DQN)
class PAL(ALDQN):
    """Persistent Advantage Learning (after arXiv 1512.04860): ``max(y_AL, r + gamma (1 - done) Q(s', a))``.

    :param persistence: share of the action gap at the next state that counts, in [0, 1], or a schedule of it; 1 is the above,
        0 DQN's target in the place of the second
    :raises ValueError: for a value that is not allowed
    """

    def __init__(self, *args: Any, persistence: Scheduled = 1.0, **kwargs: Any):
        # Before SB3 makes the networks, which is when arguments are checked.
        self.persistence = persistence
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        """Check the arguments that are ours."""
        super().check_arguments()
        self.persistence = as_scheduled("persistence", self.persistence)
        check_scheduled("persistence", self.persistence, check_fraction)

    def coefficients(self) -> dict[str, float]:
        """What the loss reads and may change, or differ between the seeds of a stack: the fast engine follows these.

        By the names of attributes: while it records a loss, each of these is a tensor, its input from then on.
        """
        return {**super().coefficients(), "persistence": self.current_persistence()}

    def current_persistence(self) -> Any:
        """At this point of training; a number, or the tensor that stands for it."""
        return at_progress(self.persistence, self._current_progress_remaining)

    def td_target(self, networks: ValueNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """Pure: no ``.item()``, no branch on a value, so that it can be recorded, compiled and run for many seeds."""
        target, metrics = super().td_target(networks, batch, noise)
        values = networks.target_values(batch.next_observations)
        best = values.amax(dim=1, keepdim=True)
        gap = best - values.gather(1, batch.actions.long())
        again = batch.rewards + (1 - batch.dones) * self.discounts_of(batch) * (best - self.current_persistence() * gap)
        return th.max(target, again), metrics


def main(argv: list[str] | None = None) -> None:
    """Train three seeds of it together and print what they reach."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="CartPole-v1", help="with discrete actions (default: CartPole-v1)")
    parser.add_argument("--steps", type=positive, default=30_000, help="of each seed (default: 30,000)")
    arguments = parser.parse_args(argv)
    # Losses of your own run on the fast engine where it is asked for by name.
    models = train_seeds(
        PAL,
        "MlpPolicy",
        arguments.env,
        seeds=range(3),
        total_timesteps=arguments.steps,
        engine="fast",
        learning_rate=2.3e-3,
        learning_starts=1_000,
        train_freq=256,
        gradient_steps=128,
        target_update_interval=10,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
    )
    for seed, model in enumerate(models):
        mean, deviation = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
        print(f"seed {seed}: {mean:.1f} +/- {deviation:.1f}")


if __name__ == "__main__":
    main()
