"""Runs: steps, step sizes, the simulation in memory, and its recording in a file."""
