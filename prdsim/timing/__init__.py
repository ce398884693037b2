"""The time of a step, measured: every backend in every chart, and the bare matrix products.

Each contender runs the alternating algorithm (``gd``) on the same data from the same initial
weights, and is compared with the float64 reference before it is timed. Then all are timed in turn,
round after round, so that a temporary slowdown of the machine affects all of them.
"""
