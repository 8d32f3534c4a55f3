"""One timing in a process of its own.

``python -m benchmarks.speed.worker`` reads a job, a line of JSON, from its standard input and learns. Warmed up, it writes
a line and waits for one, so that processes that are timed together begin together; a second line is the result. It then
goes on learning until it is ended, so that the others keep their company.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from functools import partial
from typing import Any, TextIO

import gymnasium as gym
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

LEARNING_STARTS = 100
PRODUCT = 256
"""Rows and columns of the matrices that the machine's rate is measured with."""


class Clock(BaseCallback):
    """Lets training warm up, then times a number of steps of it; also logs to a file, as users do.

    :param job: see :func:`main`
    :param channel: where to say what was measured
    :param speaks: whether this is the callback that times; a stack of seeds needs one
    """

    def __init__(self, job: dict[str, Any], channel: TextIO, speaks: bool):
        super().__init__()
        self._job, self._channel, self._speaks = job, channel, speaks
        self._first, self._last = job["warm_up"], job["warm_up"] + job["steps"]
        self._start = self._cpu_start = self._pause = self._updating = 0.0

    def _on_training_start(self) -> None:
        self.model.set_logger(configure(tempfile.mkdtemp(), ["csv"]))

    def _on_rollout_end(self) -> None:
        self._pause = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self._start:
            self._updating += time.perf_counter() - self._pause

    def _on_step(self) -> bool:
        if self._speaks and self.num_timesteps == self._first:
            self._say({})
            sys.stdin.readline()
            self._start, self._cpu_start = time.perf_counter(), time.process_time()
        if self._speaks and self.num_timesteps == self._last:
            self._say(self._measured(time.perf_counter() - self._start, time.process_time() - self._cpu_start))
        return True

    def _measured(self, seconds: float, cpu_seconds: float) -> dict[str, float]:
        steps = self._job["steps"] * len(self._job["seeds"])
        return {
            "steps_per_second": steps / seconds,
            "update_ms": 1000 * self._updating / (steps * _gradient_steps_a_step(self.model)),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "cores_used": cpu_seconds / seconds,
            **(_probe() if self._job["probe"] else {}),
        }

    def _say(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._channel, flush=True)


def _gradient_steps_a_step(model: Any) -> float:
    """Gradient steps for every environment step, of an on-policy algorithm with minibatches that divide its rollout."""
    return model.gradient_steps if hasattr(model, "gradient_steps") else model.n_epochs / model.batch_size


def train(job: dict[str, Any], channel: TextIO) -> None:
    """Learn as the job says, for longer than the clock runs."""
    from sb3_entropic import Engine, train_seeds
    from sb3_entropic.engine.gemm import fast_matrix_products

    module, _, name = job["algorithm"].partition(":")
    algorithm, seeds = getattr(importlib.import_module(module), name), job["seeds"]
    engine = {} if job["engine"] is None else {"engine": Engine(**job["engine"])}
    total = job["warm_up"] + 2 * job["steps"]
    clocks = {seed: Clock(job, channel, speaks=seed == seeds[0]) for seed in seeds}
    # Everybody's are the same: of an id SB3 makes environments that can render, which takes LunarLander's time.
    make_env = partial(gym.make, job["env"])
    if len(seeds) > 1:
        arguments = {**engine, **job["arguments"], "device": job["device"]}
        train_seeds(algorithm, "MlpPolicy", make_env, seeds=seeds, total_timesteps=total, callback=clocks.get, **arguments)
        return
    device = {} if module == "sbx" else {"device": job["device"]}
    model = algorithm("MlpPolicy", make_env(), seed=seeds[0], **engine, **job["arguments"], **device)
    with fast_matrix_products(model.policy) if job["switch"] else nullcontext():
        model.learn(total, callback=clocks[seeds[0]])


def _probe() -> dict[str, float]:
    """Rates of 32-bit matrix products, in GFLOP/s: of torch's own library, and with ours chosen."""
    from sb3_entropic.engine.gemm import fast_matrix_products

    switch = getattr(th.backends.mkldnn, "matmul", None)
    if switch is None:
        return {"gflops": (rate := _rate_of_products()), "gflops_switched": rate}
    before, switch.fp32_precision = switch.fp32_precision, "none"
    rate = _rate_of_products()
    with fast_matrix_products(th.nn.Linear(PRODUCT, PRODUCT)):
        switched = _rate_of_products()
    switch.fp32_precision = before
    return {"gflops": rate, "gflops_switched": switched}


def _rate_of_products(repeats: int = 7, products: int = 100) -> float:
    a, b, out = (th.randn(PRODUCT, PRODUCT) for _ in range(3))
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(products):
            th.mm(a, b, out=out)
        seconds.append(time.perf_counter() - start)
    return products * 2 * PRODUCT**3 / statistics.median(seconds[1:]) / 1e9


def main() -> int:
    """Do the job on standard input; 1 if it raised (the error is the last line said).

    A job has a system's ``algorithm``, ``env``, ``arguments``, ``engine``, ``switch``, ``device`` and ``probe``, the ``seeds``
    of this process, and each one's environment steps: ``warm_up``, and ``steps`` while the clock runs.
    """
    warnings.filterwarnings("ignore")
    # A graph that could not be compiled would be timed under a wrong name.
    warnings.filterwarnings("error", message="compiling failed")
    # Whatever a library prints, in C too, must not be mistaken for a result.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    th.set_num_threads(1)
    try:
        train(json.loads(sys.stdin.readline()), channel)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps({"error": reason}), file=channel, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
