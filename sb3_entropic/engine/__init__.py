"""Fast execution of the same losses, for one seed or many at once.

``stack.py`` holds the parameters of all seeds, ``replay.py`` their transitions; ``trace.py`` turns a gradient step into
a graph of batched operations, ``compiler.py`` compiles it where that pays; ``step.py`` runs it and steps the optimisers,
on the CPU or, as ``place.py`` has it, on a GPU; ``lockstep.py`` is the loop that acts, stores and trains, ``rollouts.py``
that of on-policy algorithms, ``runner.py`` one model's part of it and ``streams.py`` its random numbers; ``support.py`` says
what is left to SB3's own loop, and ``gemm.py`` picks the matrix library.
"""
