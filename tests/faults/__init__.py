"""The suite that keeps the promises: faults put into a run, and what must be left afterwards.

A campaign is a function (count, seed) -> Report. The tests run a part of each; the whole:
``python -m tests.faults --long``.

Kills, crash images, errors of the system, second writers, vanishing outputs and planted temporary
names are put into the lives of a tiny run (`world`) or table (`tables`). Mutated inputs of every
format, forged trajectories, the kept corpus and single flipped bits are given to commands
(`sandbox`), whose answers an `oracle` judges. All commands run in forked children (`child`).
"""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",  # OpenMP refuses to work in a fork
}
"""Of the process whose children are forked: it must have no other threads."""
