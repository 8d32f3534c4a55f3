#!/usr/bin/env bash
# Why does MSAC fail on MountainCarContinuous-v0, where SAC does not? Written after continuous.sh had shown that it does, and
# before any of this ran; five seeds.
#
#   benchmarks/studies/mountain-car.sh [options of `python -m benchmarks run`, such as --out runs/continuous]
#
# With munchausen_alpha=0.5 half of the temperature weighs the entropy and half the divergence from the previous policy
# (arXiv 2007.14430, theorem 1). If it is the entropy that is missing, SAC fails likewise at half the temperature, and MSAC
# succeeds at twice; if it is the constant of the shift, which pays or costs something every step where the coefficient is
# fixed, MSAC succeeds without it. About half an hour of one core.
. "$(dirname "$0")/common.sh"
options=(--env MountainCarContinuous-v0 --steps 50000 --seeds 5 --algos msac)

run -p munchausen_alpha=0 -p ent_coef=0.05 "$@"
run -p ent_coef=0.2 "$@"
run -p munchausen_shift=false "$@"
