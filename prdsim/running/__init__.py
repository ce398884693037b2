"""Runs: steps, step sizes, the simulation in memory, and its way into a file."""
