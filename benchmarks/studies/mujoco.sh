#!/usr/bin/env bash
# MSAC beside SAC on MuJoCo, five seeds. Fixed before anything ran.
#
#   benchmarks/studies/mujoco.sh [options of `python -m benchmarks run`, such as --out runs/mujoco]
#
# SAC is MSAC with munchausen_alpha=0, whose losses are the same to the bit in SB3's loop and to rounding on the fast
# engine, where its seeds train together.
# An estimate from short runs: 35 hours of one core, half of it with --matrix-library bf16 where the processor has AMX. What is
# finished is never run again, and two calls share the work.
. "$(dirname "$0")/common.sh"
options=(--budget full --seeds 5)

for experiment in Hopper-v4:1000000 HalfCheetah-v4:300000 Walker2d-v4:300000; do
  run --env "${experiment%:*}" --steps "${experiment#*:}" --algos msac -p munchausen_alpha=0 "$@"
  run --env "${experiment%:*}" --steps "${experiment#*:}" --algos msac "$@"
done
