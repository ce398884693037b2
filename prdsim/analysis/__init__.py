"""Measures of patterns, from weights or from trajectories."""
