"""Growth rates, modes and equilibria of the flow, and the Turing condition."""
