"""Checks that a backend agrees with the float64 reference; see `ladder`."""
