#!/usr/bin/env bash
# The continuous family on Box2D's and classic control's environments, five seeds. Written after Pendulum-v1's runs had begun,
# with their settings, and after a first look at LunarLanderContinuous-v3 with other ones (150,000 steps, three seeds, 16-bit
# products), which stands beside them in results/continuous; the rest was fixed before it ran.
#
#   benchmarks/studies/continuous.sh [options of `python -m benchmarks run`, such as --out runs/continuous]
#
# Hyperparameters are rl-baselines3-zoo's, with ours on top where sb3_entropic/zoo/hyperparams says so. On Pendulum-v1 SB3's and
# sb3-contrib's own are the baselines, elsewhere our losses with munchausen_alpha=0, which are theirs to the bit in
# SB3's loop and to rounding on the fast engine, where their seeds train together.
# On MountainCarContinuous-v0 MSAC and MTQC ran with their parents' temperature first; since mountain-car.sh their entries have
# twice as much, with which MTQC ran again, and MSAC in that study.
# About 12 hours of one core. What is finished is never run again, and two calls share the work.
. "$(dirname "$0")/common.sh"
options=(--seeds 5)

run --env Pendulum-v1 --steps 20000 --algos msac,mdac,mtqc,softq,sac,tqc "$@"
# With 16-bit products, on a processor that has them, LunarLanderContinuous-v3 takes 2.2 to 2.5 hours of a core a row.
for experiment in "MountainCarContinuous-v0 --steps 50000" "LunarLanderContinuous-v3 --steps 200000 --matrix-library bf16"; do
  for algo in msac mtqc; do
    # shellcheck disable=SC2086 (words of their own)
    run --env $experiment --algos "$algo" "$@"
    run --env $experiment --algos "$algo" -p munchausen_alpha=0 "$@"
  done
done
