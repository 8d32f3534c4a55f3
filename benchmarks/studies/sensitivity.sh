#!/usr/bin/env bash
# How much temperature and weight of the bonus matter to Munchausen DQN: a map, five seeds a setting. Fixed before anything ran.
#
#   benchmarks/studies/sensitivity.sh [options of `python -m benchmarks run`, such as --out runs/sensitivity]
#
# In the map the row of weight 0 is soft Q-learning, the column of temperature 0.003 nearly Advantage Learning (its gap
# clipped at 1, which ALDQN's is not), and where they meet it is nearly DQN.
# An estimate from short runs: 2 hours of one core on CartPole-v1 (it took 0.8) and 8 on LunarLander-v3. What is finished is never run again,
# and two calls share the work.
. "$(dirname "$0")/common.sh"
options=(--algos mdqn --seeds 5)
options+=(--grid munchausen_alpha=0,0.3,0.6,0.9,0.99 --grid temperature=0.003,0.01,0.03,0.1,0.3)

run --env CartPole-v1 --steps 50000 "$@"
run --env LunarLander-v3 --steps 100000 "$@"
