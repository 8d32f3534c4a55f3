"""Scores on a common scale: 0 is a random policy, measured here, and 1 a published score, cited.

``normalisation.csv`` has a row an environment id with its version: the mean return of a uniformly random policy, and the
reference's algorithm, environment, metric and source. A reference is what rl-baselines3-zoo reports of SAC (continuous
actions) or DQN, because its metric, a deterministic evaluation of the final model, is ours; of MuJoCo it is D4RL's expert,
as the field normalises there, and for Ant-v4, whose rewards are not those of Ant-v2, Tianshou's SAC on that very version.
``reference_env`` says where the reference is of an earlier version with the same rewards. An environment without a row, such
as one whose version changed them, keeps its raw returns.

``python -m benchmarks.normalisation`` measures the random policies again and rewrites the file; with ids, only those, and a
new id gets a row without a reference, which is to be filled in.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd

from sb3_entropic.envs.registry import find_environment, without_module
from sb3_entropic.errors import UserError

TABLE = Path(__file__).parent / "normalisation.csv"
EPISODES = 100
COLUMNS = ("env", "random", "reference", "reference_algorithm", "reference_env", "metric", "source")


@dataclass(frozen=True)
class Scale:
    """What makes the returns of an environment comparable to those of others.

    :param env: environment id with its version
    :param random: mean return of a uniformly random policy
    :param reference: return of the reference
    :param reference_algorithm: what made it
    :param reference_env: the environment id it was made on
    :param metric: how the reference was measured
    :param source: where it was published
    """

    env: str
    random: float
    reference: float
    reference_algorithm: str
    reference_env: str
    metric: str
    source: str

    def normalise(self, returns: np.ndarray) -> np.ndarray:
        """Returns with 0 for the random policy and 1 for the reference."""
        return (np.asarray(returns, dtype=float) - self.random) / (self.reference - self.random)

    @property
    def title(self) -> str:
        """The scale in one line."""
        return (
            f"0 is a random policy ({self.random:,.1f}), 1 is {self.reference_algorithm} on {self.reference_env} "
            f"({self.reference:,.1f}, {self.metric}; {self.source})"
        )


def find_scale(env: str) -> Scale | None:
    """The scale of an environment id, of exactly that version; ``None`` if the table has none."""
    return _scales().get(env, _scales().get(without_module(env)))


@lru_cache(maxsize=1)
def _scales() -> dict[str, Scale]:
    table = pd.read_csv(TABLE).dropna(subset="reference")
    return {row["env"]: Scale(**row) for row in table.to_dict(orient="records")}


def random_score(env_id: str, episodes: int = EPISODES) -> float:
    """Mean return of a uniformly random policy; the same every time.

    :param env_id: environment id
    :param episodes: of seeds 0, 1, ...
    """
    env = gym.make(env_id)
    env.action_space.seed(0)
    returns = []
    for seed in range(episodes):
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return float(np.mean(returns))


def main(env_ids: list[str]) -> int:
    """Measure the random policies of these environments, by default all of the table's, and rewrite it."""
    warnings.filterwarnings("ignore")
    table = pd.read_csv(TABLE).set_index("env")
    try:
        for env in [find_environment(env_id).id for env_id in env_ids] or list(table.index):
            table.loc[env, "random"] = round(random_score(env), 3)
            print(f"{env}: {table.loc[env, 'random']:,.3f} over {EPISODES} episodes")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table.sort_index().reset_index()[list(COLUMNS)].to_csv(TABLE, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
