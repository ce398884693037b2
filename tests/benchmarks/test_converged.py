"""benchmarks/converged.py: what is compared, at which step, and when it refuses to report."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from math import hypot

import converged
import numpy as np
import pytest
import report as page_writer
from converged import FUNCTIONALS, OURS, Entry

from prdsim.running.simulation import Simulation

TINY = {
    "diffusion": True,
    "samples": 8,
    "width": 8,
    "critic_warmup": 0.1,
    "end_time": 2.0,
    "rtol": 0.03,
    "backend": "numpy",
}


@pytest.fixture(scope="module")
def problem():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(converged.JOBS, "tiny", TINY)
        yield converged.problem_of("tiny", {1, 5}, None, threads=1)


def at_the_end(problem, **keys):
    with Simulation(problem.config.replace(**keys), problem.X, problem.Y) as simulation:
        while not simulation.finished:
            simulation.advance(1000)
        return simulation.weights(simulation.shown_time)


def test_errors_are_those_of_converge(problem):
    errors = problem.errors(converged.functionals(problem, at_the_end(problem)))
    assert all(0.0 < errors[name] <= problem.end.stated[name] * (1 + 1e-9) for name in FUNCTIONALS)
    assert problem.early.time < problem.end.time / 2
    assert problem.early.truth["loss_sup"] != problem.end.truth["loss_sup"]
    finest = at_the_end(problem, rtol=3e-3, atol=1e-9)
    assert max(problem.errors(converged.functionals(problem, finest)).values()) < 1e-6


@pytest.mark.parametrize("updates", [1, 5])
def test_fixed_steps_are_the_largest_that_err_no_more_than_stated(problem, updates):
    chosen = problem.steps[updates]
    scores = {
        steps: hypot(*(errors[name] / problem.end.stated[name] for name in errors)) / 5**0.5
        for steps, errors in chosen["tried"].items()
    }
    assert list(scores)[-1] == chosen["steps"] > 1
    assert all((score <= 1.0) == (steps == chosen["steps"]) for steps, score in scores.items())
    config = problem.workload(updates).config
    assert config.step_size == pytest.approx(problem.config.end_time / chosen["steps"])
    assert (config.integrator, config.critic_steps) == ("gd", updates)


def test_the_smallest_step_is_taken_if_none_is_accurate(problem, monkeypatch):
    monkeypatch.setattr(converged, "LARGEST_DIVISOR", 4)
    judgment = replace(problem.end, stated=dict.fromkeys(FUNCTIONALS, 1e-30))
    found = converged.fixed_steps(replace(problem, end=judgment), 1, longest=0.1)
    assert (found["divisor"], found["steps"], list(found["tried"])) == (4, 80, [20, 40, 80])


def test_steps_that_diverge_are_no_candidates(problem, monkeypatch):
    longer = replace(problem, config=problem.config.replace(end_time=300.0))
    monkeypatch.setattr(converged, "LARGEST_DIVISOR", 32)
    tried = converged.fixed_steps(longer, 5, longest=5.0)["tried"]
    diverged = [errors is None for errors in tried.values()]
    assert diverged[0]
    assert not diverged[-1]
    monkeypatch.setattr(converged, "LARGEST_DIVISOR", 1)
    with pytest.raises(RuntimeError, match="gd diverges with all fixed steps"):
        converged.fixed_steps(longer, 5, longest=5.0)


def test_other_numbers_end_the_program(problem):
    right = problem.end.truth
    allowed = dict.fromkeys(FUNCTIONALS, 0.01)
    converged.check("jax", {**right, "loss_adv": right["loss_adv"] * 1.009}, right, allowed)
    for wrong in (1.011, float("nan")):
        other = {**right, "loss_adv": right["loss_adv"] * wrong}
        with pytest.raises(RuntimeError, match=r"jax ends with loss_adv = .* more than 1 % off"):
            converged.check("jax", other, right, allowed)


def test_a_rival_that_fails_ends_the_program():
    with pytest.raises(RuntimeError, match="no_such_library"):
        converged._child(["python", "-c", "import no_such_library"], {})


def test_diffrax_takes_the_same_step_with_the_same_error(problem):
    if importlib.util.find_spec("diffrax") is None:
        pytest.skip("diffrax is not installed")
    import diffrax_rival
    from diffrax import ODETerm

    config, size = problem.config, 10 * problem.first_step
    flow = (config.rtol, config.atol, config.end_time, size)
    rival = diffrax_rival.DiffraxRival(problem.workload(0), *flow)
    method, term = diffrax_rival._ErrorByArrays(config.rtol, config.atol), ODETerm(rival._velocity)
    given = (0.0, size, rival.parameters, rival._data)
    new, error, *_ = method.step(term, *given, method.init(term, *given), made_jump=False)
    with Simulation(config, problem.X, problem.Y) as ours:
        state, norm = ours.stepper.attempt(ours.model, ours.state, ours._memory, step_size=size)
        for array, value in zip(new, ours.model.weights(state).values(), strict=True):
            np.testing.assert_allclose(array.T, value, rtol=0, atol=1e-13)
    assert float(diffrax_rival._controller().norm(error)) == pytest.approx(norm, rel=1e-9)
    counts = rival.solve()
    right = converged.functionals(problem, at_the_end(problem))
    found = converged.functionals(problem, rival.weights())
    assert counts["steps"] > 5
    assert all(found[name] == pytest.approx(right[name], rel=0.03) for name in FUNCTIONALS)


def test_the_page_shows_every_contender():
    round_ = {"seconds": 8.0, "run": 6.0, "processor": 14.0, "ms_per_step": 7.5}
    round_ |= {"steps": 1234, "rejected": 5, "errors": dict.fromkeys(FUNCTIONALS, 0.0123)}
    warm, cold = {**round_, "seconds": 4.0}, round_
    entries = [Entry(OURS, OURS), Entry("diffrax", "diffrax"), Entry("torch, 1 update", "torch", 1)]
    both, slower = [{"cold": cold, "warm": warm}], [{"cold": cold, "warm": round_}]
    rows = [both, slower, [{"warm": round_}]]
    job = {
        "name": "readme",
        "keys": {"end_time": 20.0, "rtol": 3e-4},
        "sizes": {"n": 500, "m": 256},
        "stated_errors": dict.fromkeys(FUNCTIONALS, 0.0345),
        "contenders": [
            converged.summed_up(entry, rounds) for entry, rounds in zip(entries, rows, strict=True)
        ],
    }
    whole = {
        **converged.circumstances("jax"),
        "threads": 2,
        "rounds": 1,
        "jobs": [job],
    }
    page = "\n".join(page_writer.converged(whole, "results/x-converged.json"))
    assert "README's job: n = 500, m = 256, to t = 20 at rtol 0.0003" in page
    assert "| prdsim | 8 | 4 | 1.00 | 14 | 1,234 | 5 | 7.5 | 1.2 % | 1.2 % |" in page
    assert "| torch, 1 update | 8 | 8 | 2.00 | 14 | 1,234 | 5 | 7.5 | 1.2 % | 1.2 % |" in page
    assert "mean distance of U 3.5 %" in page
    assert "whole run, warm | README's job | 2 | at least 3 | **no** |" in page
    assert "nothing compiled | README's job | 8 | at most 30 | yes |" in page
    assert "torch, 1 update" in converged.summary(job)
