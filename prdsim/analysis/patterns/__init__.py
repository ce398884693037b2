"""Measures of the patterns in the weights."""
