#!/usr/bin/env bash
# The continuous family on Box2D's and classic control's environments, five seeds. Written after Pendulum-v1's runs had begun,
# with their settings, and after a first look at LunarLanderContinuous-v3 with other ones (150,000 steps, three seeds, 16-bit
# products), which stands beside them in results/continuous; the rest was fixed before it ran.
#
#   benchmarks/studies/continuous.sh [options of `python -m benchmarks run`, such as --out runs/continuous]
#
# Hyperparameters are rl-baselines3-zoo's, with ours on top where sb3_entropic/zoo/hyperparams says so. MountainCarContinuous
# needs the zoo's state-dependent exploration, which runs in SB3's loop.
# An estimate from short runs: 20 hours of one core. What is finished is never run again, and two calls share the work.
. "$(dirname "$0")/common.sh"
options=(--seeds 5)

run --env Pendulum-v1 --steps 20000 --algos msac,mdac,mtqc,softq,sac,tqc "$@"
run --env MountainCarContinuous-v0 --steps 50000 --algos msac,mtqc,sac,tqc "$@"
run --env LunarLanderContinuous-v3 --steps 200000 --algos msac,mtqc "$@"
run --env LunarLanderContinuous-v3 --steps 200000 --algos msac -p munchausen_alpha=0 "$@"
run --env LunarLanderContinuous-v3 --steps 200000 --algos mtqc -p munchausen_alpha=0 "$@"
