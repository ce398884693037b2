"""The model: its state, equations and what can be seen of it. Knows no file and no clock."""
