#!/usr/bin/env bash
# Which weight of the Munchausen bonus, and which bounds of the two log-density terms, help SAC? Fixed before anything ran.
#
#   benchmarks/studies/munchausen-bounds.sh [options of `python -m benchmarks run`, such as --out runs/bounds]
#
# Two environments, 100,000 steps, 5 seeds, nine settings; about 17 hours of one core, or 9 with --matrix-library bf16 where
# the processor has AMX. What is finished is never run again, two calls share the work, and an option given here, such as
# --steps 30000, goes before what is written below. The settings that the question needs most come first.
. "$(dirname "$0")/common.sh"
options=(--env HalfCheetah-v4,Hopper-v4 --seeds 5 --steps 100000)

# The parent, as a stack: munchausen_alpha=0 has SAC's losses.
run --algos msac -p munchausen_alpha=0 "$@"
# Both bounds slowly saturating, alpha 0.9: Mirror Descent Actor-Critic.
run --algos mdac "$@"
# A clip around the bonus of a policy that has its target entropy.
run --algos msac -p munchausen_alpha=0.5 -p 'munchausen_bound=[-1, 1]' -p munchausen_shift=true "$@"
# Slowly saturating bounds of the bonus alone.
run --algos msac -p munchausen_alpha=0.9 -p 'munchausen_bound=clip(x/10)' -p munchausen_shift=false "$@"
run --algos msac -p munchausen_alpha=0.5 -p 'munchausen_bound=clip(x/10)' -p munchausen_shift=false "$@"
# The clip of the discrete algorithms.
run --algos msac -p munchausen_alpha=0.9 -p 'munchausen_bound=[-1, 0]' -p munchausen_shift=false "$@"
run --algos msac -p munchausen_alpha=0.9 -p 'munchausen_bound=[-1, 1]' -p munchausen_shift=true "$@"
run --algos msac -p munchausen_alpha=0.9 -p 'munchausen_bound=tanh(x/10)' -p munchausen_shift=false "$@"
# The bound of the entropy term alone.
run --algos msac -p munchausen_alpha=0 -p 'entropy_bound=clip(x/10)' "$@"
