#!/usr/bin/env bash
# How much temperature and weight of the bonus matter to Munchausen DQN: a map, five seeds a setting. Fixed before anything ran.
#
#   benchmarks/studies/sensitivity.sh [options of `python -m benchmarks run`, such as --out runs/sensitivity]
#
# In the map the row of weight 0 is soft Q-learning, the column of temperature 0.003 nearly Advantage Learning, and where they
# meet it is nearly DQN.
# An estimate from short runs: 2 hours of one core on CartPole-v1 and 8 on LunarLander-v3. What is finished is never run again,
# and two calls share the work.
set -euo pipefail
cd "$(dirname "$0")/../.."

for env in CartPole-v1:50000 LunarLander-v3:100000; do
  "${PYTHON:-.venv/bin/python}" -m benchmarks run --env "${env%:*}" --steps "${env#*:}" --seeds 5 --algos mdqn \
    --grid munchausen_alpha=0,0.3,0.6,0.9,0.99 --grid temperature=0.003,0.01,0.03,0.1,0.3 "$@"
done
