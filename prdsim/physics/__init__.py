"""The model: its state, equations and observables; independent of files and clocks."""
