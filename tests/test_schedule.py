"""Plans of rows by step and by time, plans of longer runs, and how a run follows its plan."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prdsim.errors import ConfigError
from prdsim.schedule import Agenda, Rule, extended, is_by_time, reaches

totals = st.integers(1, 10**6)
rules = st.one_of(
    st.integers(2, 300).map(lambda count: f"geometric:{count}"),
    st.integers(2000, 10**9).map(lambda every: f"every:{every}"),  # few enough to list
)
ends = st.floats(1e-3, 1e4)
time_rules = st.one_of(
    st.integers(2, 300).map(lambda count: f"times:geometric:{count}"),
    st.floats(5.0, 1e6).map(lambda every: f"times:every:{every!r}"),  # few enough to list
)


def step_plan(rule: str, steps: int) -> list[int]:
    plan = Rule.parse(rule).plan(steps=steps, end_time=None)
    assert not is_by_time(plan)
    return plan


def time_plan(rule: str, end: float) -> list[float]:
    plan = Rule.parse(rule).plan(steps=7, end_time=end)
    assert is_by_time(plan)
    return plan


def longer(planned: list, fresh: list) -> list:
    """The plan of a longer run, of one that came to its end and recorded all of its rows."""
    return extended(planned, planned, fresh, reached=planned[-1])


def is_plan(plan: list[int], steps: int) -> bool:
    """From 0 to the last step, strictly ascending whole numbers."""
    return (
        plan[0] == 0
        and plan[-1] == steps
        and all(type(step) is int for step in plan)
        and all(before < after for before, after in pairwise(plan))
    )


def is_time_plan(plan: list[float], end: float) -> bool:
    """From 0 to the end, strictly ascending numbers with a fraction, by their type."""
    return (
        plan[0] == 0.0
        and plan[-1] == end
        and all(type(time) is float for time in plan)
        and all(before < after for before, after in pairwise(plan))
    )


# -- rules -----------------------------------------------------------------------------------------


@given(st.one_of(rules, time_rules))
def test_a_rule_is_the_text_it_was_read_from(text):
    rule = Rule.parse(text)
    assert rule.by_time == text.startswith("times:")
    assert Rule.parse(str(rule)).kind == rule.kind
    # 15 digits of a float are shown: what is read again differs in the last one at the most.
    assert Rule.parse(str(rule)).number == pytest.approx(rule.number, rel=1e-14)


def test_rules_are_shown_as_they_are_written():
    texts = ("geometric:40", "every:10", "times:geometric:40", "times:every:0.5", "times:every:2")
    assert tuple(str(Rule.parse(text)) for text in texts) == texts


# -- by step ---------------------------------------------------------------------------------------


@given(rules, totals)
def test_plans_go_from_the_first_to_the_last_step(rule, steps):
    assert is_plan(step_plan(rule, steps), steps)


@given(st.integers(1000, 10**9), totals)
def test_every_goes_from_the_first_to_the_last_step(every, steps):
    plan = step_plan(f"every:{every}", steps)
    assert is_plan(plan, steps)
    assert all(step % every == 0 for step in plan[:-1])


@given(st.integers(2, 300), totals)
def test_geometric_takes_at_most_its_count_and_exactly_that_where_steps_abound(count, steps):
    plan = step_plan(f"geometric:{count}", steps)
    assert len(plan) <= count
    if steps == 10**6 and count <= 40:
        assert len(plan) > count // 2


def test_geometric_counts_exactly_where_whole_steps_do_not_coincide():
    assert step_plan("geometric:6", 10**4) == [0, 1, 10, 100, 1000, 10**4]
    assert step_plan("geometric:2", 77) == [0, 77]
    assert step_plan("geometric:3", 77) == [0, 1, 77]
    assert step_plan("geometric:40", 1) == [0, 1]
    assert len(step_plan("geometric:40", 2000)) > 30


@given(st.integers(5, 200), st.integers(100, 10**6))
def test_geometric_spacing_is_even_in_the_logarithm(count, steps):
    """Neighbors grow by one constant factor, up to rounding to whole steps."""
    plan = step_plan(f"geometric:{count}", steps)
    ratio = steps ** (1 / (count - 2))
    for before, after in pairwise(plan[1:]):
        # Rounding moves either end by 1/2; coinciding steps only leave gaps of 1.
        assert after - before == 1 or after - 0.5 <= (before + 0.5) * ratio * (1 + 1e-12)


def test_every_takes_the_multiples_and_the_last():
    assert step_plan("every:100", 250) == [0, 100, 200, 250]
    assert step_plan("every:100", 200) == [0, 100, 200]
    assert step_plan("every:100", 99) == [0, 99]
    assert step_plan("every:10", 25) == [0, 10, 20, 25]
    assert step_plan("every:1", 3) == [0, 1, 2, 3]


@pytest.mark.parametrize("steps", [1, 2, 2**31 - 1])
def test_extreme_totals(steps):
    assert is_plan(step_plan("geometric:40", steps), steps)


# -- by time ---------------------------------------------------------------------------------------


@given(time_rules, ends)
def test_plans_of_times_go_from_zero_to_the_end(rule, end):
    assert is_time_plan(time_plan(rule, end), end)


@given(st.integers(2, 300), ends)
def test_geometric_times_are_as_many_as_asked_for_and_even_in_the_logarithm(count, end):
    """Times do not coincide as whole steps do; the first is a thousandth of the end."""
    plan = time_plan(f"times:geometric:{count}", end)
    assert len(plan) == count
    ratios = [after / before for before, after in pairwise(plan[1:])]
    assert ratios == pytest.approx([1e3 ** (1 / max(count - 2, 1))] * len(ratios), rel=1e-12)
    if count > 2:
        assert plan[1] == pytest.approx(1e-3 * end, rel=1e-15)


def test_every_so_much_time_takes_the_multiples_and_the_end():
    assert time_plan("times:every:0.5", 1.75) == [0.0, 0.5, 1.0, 1.5, 1.75]
    assert time_plan("times:every:0.5", 1.5) == [0.0, 0.5, 1.0, 1.5]
    assert time_plan("times:every:2", 1.5) == [0.0, 1.5]
    assert time_plan("times:geometric:2", 1.5) == [0.0, 1.5]
    expected = [0.0, 1e-3, 1e-2, 1e-1, 1.0]
    assert time_plan("times:geometric:5", 1.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("every", [0.1, 0.3, 0.7, 1 / 3])
@pytest.mark.parametrize("count", [1, 3, 7, 10, 1000])
def test_multiples_that_meet_the_end_up_to_rounding_are_planned_once(every, count):
    """Three steps of 0.1 make 0.30000000000000004: the end is one row, not two."""
    end = sum([every] * count)  # off by some roundings from count * every
    plan = time_plan(f"times:every:{every!r}", end)
    assert len(plan) == count + 1
    assert plan[-1] == end
    assert plan[:-1] == [i * every for i in range(count)]


def test_more_rows_than_any_disk_holds_are_refused_in_words():
    for rule, words in (
        ("every:1", "every:1: 2,147,483,647 rows are planned, at most 5,000,000 are"),
        ("times:every:1e-6", "times:every:1e-06: 50,000,000 rows are planned"),
        ("times:every:1e-300", "times:every:1e-300: 5e+301 rows are planned"),
        ("times:every:1e-310", "inf rows are planned"),
        ("geometric:1000000000000000", "1,000,000,000,000,000 rows are planned"),
        ("times:geometric:99999999", "record less often"),
    ):
        with pytest.raises(ConfigError) as caught:
            Rule.parse(rule).plan(steps=2**31 - 1, end_time=50.0)
        assert words in str(caught.value)


# -- longer runs -----------------------------------------------------------------------------------


@given(rules, totals, totals)
def test_an_extended_plan_begins_with_the_old_one(rule, old, more):
    planned = step_plan(rule, old)
    plan = longer(planned, step_plan(rule, old + more))
    assert plan[: len(planned)] == planned
    assert is_plan(plan, old + more)


@given(st.integers(1000, 10**9), totals, totals, totals)
def test_extending_twice_keeps_both_ends(every, old, more, again):
    plan = step_plan(f"every:{every}", old)
    for total in (old + more, old + more + again):
        plan = longer(plan, step_plan(f"every:{every}", total))
        assert is_plan(plan, total)
    assert {old, old + more} <= set(plan)


@given(time_rules, ends, ends)
def test_an_extended_plan_of_times_begins_with_the_old_one(rule, old, more):
    planned = time_plan(rule, old)
    plan = longer(planned, time_plan(rule, old + more))
    assert plan[: len(planned)] == planned
    assert is_time_plan(plan, old + more)


def test_an_extended_plan_keeps_what_was_recorded_beyond_the_plan_and_what_was_planned():
    planned, fresh = [0, 5, 10, 20], [0, 7, 14, 21, 28, 30]
    assert extended(planned, planned, fresh, reached=20) == [0, 5, 10, 20, 21, 28, 30]
    # Stopped at step 12, with its last row there: 20 is still planned, 10 is there once.
    assert extended([0, 5, 10, 12], planned, fresh, reached=12) == [0, 5, 10, 12, 20, 21, 28, 30]
    # Left at step 10 after a row at 10: nothing is recorded twice.
    assert extended([0, 5, 10], planned, fresh, reached=12) == [0, 5, 10, 20, 21, 28, 30]
    # Nothing recorded yet: everything stays planned.
    assert extended([], planned, fresh, reached=0) == [0, 5, 10, 20, 21, 28, 30]


def test_an_extended_plan_leaves_out_times_that_the_last_step_has_passed():
    """A run to time 1 whose last step went to 1.2 goes on from there: 1.1 is over."""
    planned, fresh = [0.0, 0.5, 1.0], [0.0, 0.55, 1.1, 1.65, 2.0]
    assert extended(planned, planned, fresh, reached=1.2) == [0.0, 0.5, 1.0, 1.65, 2.0]
    assert extended(planned, planned, fresh, reached=1.0) == [0.0, 0.5, 1.0, 1.1, 1.65, 2.0]


# -- following a plan ------------------------------------------------------------------------------


def test_plans_are_told_apart_by_the_type_of_their_entries():
    assert not is_by_time([0, 1, 2])
    assert is_by_time([0.0, 1.0, 2.0])
    assert not is_by_time(step_plan("every:5", 100))
    assert is_by_time(time_plan("times:every:5", 100.0))


def test_an_agenda_of_steps_is_due_at_its_steps_at_the_time_the_run_has_then():
    agenda = Agenda([0, 2, 3, 7])
    due = [agenda.due(step, 0.25 * step) for step in range(9)]
    assert due == [[0.0], [], [0.5], [0.75], [], [], [], [1.75], []]
    assert agenda.next_time == math.inf


def test_an_agenda_of_times_gives_every_time_that_a_step_has_passed_once():
    agenda = Agenda([0.0, 0.1, 0.2, 0.5, 2.0])
    assert agenda.next_time == 0.0
    assert agenda.due(0, 0.0) == [0.0]
    assert agenda.next_time == 0.1
    assert agenda.due(1, 0.05) == []
    assert agenda.due(2, 0.3) == [0.1, 0.2]
    assert agenda.due(3, 0.3) == []
    assert agenda.next_time == 0.5
    assert agenda.due(4, 0.5) == [0.5]
    assert agenda.due(5, 2.5) == [2.0]
    assert agenda.next_time == math.inf
    assert agenda.due(6, 3.0) == []


def test_a_time_that_is_missed_by_rounding_is_due():
    """Ten steps of 0.1 come to 1 where they are added up, or to a little less."""
    added = sum([0.1] * 10)
    assert added < 1.0
    assert Agenda([1.0]).due(10, added) == [1.0]
    assert Agenda([1.0]).due(10, 0.999999) == []
    assert reaches(added, 1.0)
    assert not reaches(0.999999, 1.0)
    assert not reaches(1e300, None)


def test_an_agenda_goes_on_from_where_a_run_was_left():
    """Rows up to the step, or the time, that the run has reached are there already."""
    assert Agenda([0, 2, 3, 7], 3, 0.4).due(7, 1.0) == [1.0]
    assert Agenda([0.0, 0.5, 1.0, 2.0], 3, 0.5).due(9, 2.0) == [1.0, 2.0]
    assert Agenda([0.0, 0.5, 1.0, 2.0], 3, 0.6).next_time == 1.0


@given(time_rules, ends, st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_whatever_the_steps_every_planned_time_is_due_exactly_once_and_in_order(rule, end, sizes):
    plan = time_plan(rule, end)
    agenda, time, found = Agenda(plan), 0.0, []
    found += agenda.due(0, time)
    for step, size in enumerate([*sizes, 2 * end], start=1):
        before, time = time, time + size
        due = agenda.due(step, time)
        # Within the step, which is where states between steps can be had; or at its end.
        assert all(before < moment <= time * (1 + 1e-12) for moment in due)
        found += due
    assert found == plan
