"""Measures of the patterns in the weights: pure functions of NumPy arrays."""
