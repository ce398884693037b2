"""The suite that keeps the promises: faults put into a run, and what must be left afterwards.

A campaign is a function (count, seed) -> Report. The tests run a tenth of each; the whole:
``python -m tests.faults --long``.
"""
