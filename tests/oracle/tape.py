"""Reverse-mode differentiation of scalars, small enough to be checked by eye.

Derivatives are nodes themselves, so that they can be differentiated again: the gradient penalty
is the gradient of a function of a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

_indices = count()


class Node:
    """A scalar that remembers what it was made of: pairs (operand, d self / d operand)."""

    def __init__(self, value: float, parts: tuple[tuple[Node, Node | float], ...] = ()) -> None:
        self.value = float(value)
        self.parts = parts
        self.index = next(_indices)

    def __add__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return Node(self.value + other.value, ((self, 1.0), (other, 1.0)))
        return Node(self.value + other, ((self, 1.0),))

    __radd__ = __add__

    def __mul__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return Node(self.value * other.value, ((self, other), (other, self)))
        return Node(self.value * other, ((self, other),))

    __rmul__ = __mul__

    def __neg__(self) -> Node:
        return self * -1.0

    def __sub__(self, other: Node | float) -> Node:
        return self + other * -1.0

    def __rsub__(self, other: float) -> Node:
        return -self + other

    def __pow__(self, exponent: float) -> Node:
        # Two derivatives: that of a square root, and the derivative of that.
        first = exponent * self.value ** (exponent - 1.0)
        second = (exponent - 1.0) * first / self.value
        return Node(self.value**exponent, ((self, Node(first, ((self, second),))),))

    def __ge__(self, other: float) -> bool:
        return self.value >= other

    def __gt__(self, other: float) -> bool:
        return self.value > other


def gradient(output: Node, inputs: Sequence[Node]) -> list[Node | float]:
    """Return d output / d input for every input, each a node that can be differentiated again."""
    adjoints: dict[int, Node | float] = {output.index: 1.0}
    nodes = {output.index: output}
    waiting = [output]
    while waiting:
        for operand, _ in waiting.pop().parts:
            if operand.index not in nodes:
                nodes[operand.index] = operand
                waiting.append(operand)
    for index in sorted(nodes, reverse=True):  # operands are older than what is made of them
        adjoint = adjoints.get(index, 0.0)
        for operand, slope in nodes[index].parts:
            adjoints[operand.index] = adjoints.get(operand.index, 0.0) + adjoint * slope
    return [adjoints.get(node.index, 0.0) for node in inputs]


def value(number: Node | float) -> float:
    return number.value if isinstance(number, Node) else number
