#!/usr/bin/env bash
# Does entropy control help PPO where the zoo's budget is spent? Fixed before anything ran, but for the stack of
# ent_coef=0.01, which was added before any run of it, or of ours on LunarLander, and after the first ones elsewhere.
#
#   benchmarks/studies/on-policy.sh [options of `python -m benchmarks run`, such as --out runs/on-policy]
#
# PPO, EntropyPPO and MaxEntPPO with the steps that rl-baselines3-zoo gives PPO, 5 seeds; 3.3 hours of one
# core, a quarter of it SB3's PPO on LunarLander. Beside that there is EntropyPPO with the zoo's constant coefficient, which is PPO
# itself, as a stack on the fast engine. What is finished is never run again, and what is published need not be:
#
#   .venv/bin/python -m benchmarks restore results/on-policy --out runs/on-policy
. "$(dirname "$0")/common.sh"
options=(--algos ppo,entropyppo,maxentppo --seeds 5)

run --env Pendulum-v1 --steps 100000 "$@"
run --env CartPole-v1 --steps 100000 "$@"
run --env LunarLander-v3 --steps 1000000 --algos entropyppo -p ent_coef=0.01 "$@"
run --env LunarLander-v3 --steps 1000000 "$@"
