#!/usr/bin/env bash
# The discrete algorithms on classic control, under the full budget of protocols.yml: ten seeds. Fixed before anything ran.
#
#   benchmarks/studies/classic.sh [options of `python -m benchmarks run`, such as --out runs/classic]
#
# Ours start from their parents' hyperparameters of rl-baselines3-zoo. The baselines of DQN's family are our losses with the
# entropic terms off, which are theirs to the bit in SB3's loop and to rounding on the fast engine, where their seeds train
# together.
# About 34 hours of one core: the first half took 17. What is finished is never run again, and two calls share the work. Five
# seeds of everything come before the other five of anything, so that half of the time gives all of the comparisons. With
# --device cuda under NVIDIA's MPS five seeds of twelve algorithms shared an H200 on Acrobot-v1: in four minutes six had ended,
# five were beyond 90,000 steps, and vfe at half.
. "$(dirname "$0")/common.sh"
options=(--budget full)

# SB3's and sb3-contrib's own, as a check of the stand-ins.
run --env CartPole-v1 --algos dqn,qrdqn --seeds 5 "$@"
for seeds in 5 10; do
  for env in CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3; do
    run --env "$env" --seeds "$seeds" --algos softdqn -p soft_value=max "$@"
    run --env "$env" --seeds "$seeds" --algos softdqn,mdqn,cvidqn,dpp,aldqn,modqn "$@"
    run --env "$env" --seeds "$seeds" --algos ppo,entropyppo,maxentppo,discretesac "$@"
    run --env "$env" --seeds "$seeds" --algos mqrdqn -p munchausen_alpha=0 -p soft_value=max "$@"
    run --env "$env" --seeds "$seeds" --algos mqrdqn,miqn,vfe "$@"
  done
done
