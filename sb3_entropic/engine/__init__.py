"""Fast execution of the same losses, for one seed or many at once.

``stack.py`` holds the parameters of all seeds, ``replay.py`` and ``rollouts.py`` what they have seen; ``trace.py`` turns a
gradient step into a graph of batched operations, ``compiler.py`` compiles it where that pays; ``step.py`` runs it and steps
the optimisers, on the CPU or, as ``place.py`` has it, on a GPU, with the matrix library that ``gemm.py`` picks.

``learn.py`` stands in for SB3's ``learn``; ``lockstep.py`` is what its loops have in common, ``replay_lockstep.py`` that of
off-policy algorithms, ``rollout_lockstep.py`` that of on-policy ones, ``runner.py`` and ``rollout_runner.py`` one model's
part of them, ``streams.py`` its random numbers and ``loggers.py`` how its logger waits for what is logged.

``options.py`` is what a user may choose and ``choice.py`` what ``"auto"`` does; ``support.py`` says what is left to SB3's
own loop, ``alike.py`` which models may share a stack, and ``known.py`` whose code is recorded without being asked for.
"""
