"""Measuring prdsim against what else one would write: NumPy, PyTorch, JAX, and bare products.

The contenders run the same alternating algorithm (``gd``) on the same data from the same initial
weights, each in a process of its own. What they compute is compared with the float64 reference
before they are timed; then all are timed in turn, round after round, so that whatever slows the
machine for a while slows all of them.

PyTorch and JAX are imported by their own modules here, inside their workers, and nowhere else.
Their automatic differentiation serves the rivals only: the simulator has none.
"""
