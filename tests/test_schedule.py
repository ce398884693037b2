from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prdsim.schedule import extended, scalar_plan, snapshot_plan

totals = st.integers(1, 10**6)
rules = st.one_of(
    st.integers(2, 300).map(lambda count: f"geometric:{count}"),
    st.integers(2000, 10**9).map(lambda every: f"every:{every}"),  # few enough to list
)


def is_plan(plan: list[int], steps: int) -> bool:
    """From 0 to the last step, strictly ascending whole numbers."""
    return (
        plan[0] == 0
        and plan[-1] == steps
        and all(type(step) is int for step in plan)
        and all(before < after for before, after in pairwise(plan))
    )


@given(rules, totals)
def test_snapshots_go_from_the_first_to_the_last_step(rule, steps):
    assert is_plan(snapshot_plan(rule, steps), steps)


@given(st.integers(1000, 10**9), totals)
def test_scalars_go_from_the_first_to_the_last_step(every, steps):
    plan = scalar_plan(every, steps)
    assert is_plan(plan, steps)
    assert all(step % every == 0 for step in plan[:-1])


@given(st.integers(2, 300), totals)
def test_geometric_takes_at_most_its_count_and_exactly_that_where_steps_abound(count, steps):
    plan = snapshot_plan(f"geometric:{count}", steps)
    assert len(plan) <= count
    if steps == 10**6 and count <= 40:
        assert len(plan) > count // 2


def test_geometric_counts_exactly_where_whole_steps_do_not_coincide():
    assert snapshot_plan("geometric:6", 10**4) == [0, 1, 10, 100, 1000, 10**4]
    assert snapshot_plan("geometric:2", 77) == [0, 77]
    assert snapshot_plan("geometric:3", 77) == [0, 1, 77]
    assert snapshot_plan("geometric:40", 1) == [0, 1]
    assert len(snapshot_plan("geometric:40", 2000)) > 30


@given(st.integers(5, 200), st.integers(100, 10**6))
def test_geometric_spacing_is_even_in_the_logarithm(count, steps):
    """Neighbors grow by one constant factor, up to rounding to whole steps."""
    plan = snapshot_plan(f"geometric:{count}", steps)
    ratio = steps ** (1 / (count - 2))
    for before, after in pairwise(plan[1:]):
        # Rounding moves either end by 1/2; coinciding steps only leave gaps of 1.
        assert after - before == 1 or after - 0.5 <= (before + 0.5) * ratio * (1 + 1e-12)


def test_every_takes_the_multiples_and_the_last():
    assert snapshot_plan("every:100", 250) == [0, 100, 200, 250]
    assert snapshot_plan("every:100", 200) == [0, 100, 200]
    assert snapshot_plan("every:100", 99) == [0, 99]
    assert scalar_plan(10, 25) == [0, 10, 20, 25]
    assert scalar_plan(1, 3) == [0, 1, 2, 3]


@given(rules, totals, totals)
def test_an_extended_plan_begins_with_the_old_one(rule, old, more):
    planned = snapshot_plan(rule, old)
    longer = extended(planned, snapshot_plan(rule, old + more))
    assert longer[: len(planned)] == planned
    assert is_plan(longer, old + more)


@given(st.integers(1000, 10**9), totals, totals, totals)
def test_extending_twice_keeps_both_ends(every, old, more, again):
    plan = scalar_plan(every, old)
    for total in (old + more, old + more + again):
        plan = extended(plan, scalar_plan(every, total))
        assert is_plan(plan, total)
    assert {old, old + more} <= set(plan)


def test_plans_are_pure_functions():
    assert snapshot_plan("geometric:40", 2000) == snapshot_plan("geometric:40", 2000)


@pytest.mark.parametrize("steps", [1, 2, 2**31 - 1])
def test_extreme_totals(steps):
    assert is_plan(snapshot_plan("geometric:40", steps), steps)
