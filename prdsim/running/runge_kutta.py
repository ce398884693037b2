"""Explicit Runge-Kutta methods for the joint flow, given by `prdsim.running.tableaux`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count, islice
from math import sqrt
from typing import TYPE_CHECKING

from prdsim.physics.charts import not_negative
from prdsim.physics.gradients import velocity
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.running.stepper import Images, Memory, beside, keep
from prdsim.running.tableaux import Tableau

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.base import Sums


@dataclass(frozen=True)
class RungeKutta:
    """One explicit Runge-Kutta method for the joint flow of the arrays that move."""

    tableau: Tableau
    rtol: float
    atol: float
    dense: bool = False

    @property
    def name(self) -> str:
        return self.tableau.name

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def adaptive(self) -> bool:
        return bool(self.tableau.error)

    @property
    def dense_order(self) -> int:
        return min(self.order, self.tableau.dense_order)

    @property
    def evaluations(self) -> int:
        return len(self.tableau.a)

    @property
    def stability_limit(self) -> float:
        return self.tableau.stability_limit

    @property
    def _needs_last(self) -> bool:
        """Whether states within a step need a velocity that is not among the stages."""
        return self.dense and not self.tableau.first_same_as_last

    @property
    def _needs_before(self) -> bool:
        """Whether states within a step need a copy of the state before it."""
        return self.dense and not self.adaptive

    def allocate(self, model: Model, state: State) -> Memory:
        def empty() -> State:
            return State.empty(model.backend, model.state_shapes, model.moving)

        images, gram = None, model.chart.pull_matrix is None
        if self.tableau.solution_share is not None and gram and "U" in model.moving:
            images = Images(*(model.backend.empty(model.state_shapes["U"]) for _ in range(4)))
        return Memory(
            [empty() for _ in self.tableau.a],
            trial=beside(model, state),
            before=beside(model, state) if self._needs_before else None,
            error=empty() if self.adaptive else None,
            last=empty() if self._needs_last else None,
            images=images,
            step_size=model.backend.empty((1,), "float64") if self.adaptive else None,
            sums=_allocate_sums(model, state) if self.adaptive else None,
        )

    def advance(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        index: int,  # noqa: ARG002 - the flow is autonomous
        step_size: float,
        at_most: int = 1,
    ) -> int:
        def operations() -> None:
            velocity(model, state, out=memory.stages[0])
            self._compute_later_stages(model, state, memory, step_size)
            _advance(model, state, step_size, self.tableau.b, memory.stages, out=state)

        memory.last_known = False
        return model.backend.replay(memory, step_size, operations, at_most=at_most)

    def attempt(
        self, model: Model, state: State, memory: Memory, *, step_size: float
    ) -> tuple[State, float]:
        k, trial, images = model.backend, memory.trial, memory.images
        assert trial is not None
        assert memory.step_size is not None
        if not memory.first_stage:
            velocity(model, state, out=memory.stages[0])
            memory.first_stage = True
        if images is not None and not images.valid:
            images.compute(model, state, memory.stages[0])
        held = k.hold(step_size, memory.step_size)

        def operations() -> None:
            with nullcontext() if images is None else images.new(model.work):
                self._compute_later_stages(model, state, memory, held)
                self._compute_sums(model, trial, memory, held)

        if k.holds_numbers:
            k.replay(memory, memory.turned, operations)
        else:
            operations()
        return trial, self._error_norm(model, trial, memory)

    def _compute_later_stages(
        self, model: Model, state: State, memory: Memory, step_size: float
    ) -> None:
        """Compute the stages after the first; leaves where the last begins."""
        trial, stages, images = memory.trial, memory.stages, memory.images
        assert trial is not None
        for row, stage in zip(self.tableau.a[1:], stages[1:], strict=True):
            _advance(model, state, step_size, row, stages, out=trial)
            with_A = images is not None and len(row) == 1
            if images is not None and with_A:
                terms = [(1.0, images.A), (step_size * row[0], images.G)]
                model.backend.combine(terms, out=model.work.A)
            velocity(model, trial, out=stage, with_A=with_A)

    def accept(self, old: State, new: State, memory: Memory) -> None:
        assert memory.trial is new
        memory.trial = old
        stages = memory.stages
        stages[0], stages[-1] = stages[-1], stages[0]  # first same as last
        memory.turned = not memory.turned
        if memory.images is not None:
            memory.images.accept()

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        keep(model, state, memory)

    def interpolate(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        fraction: float,
        step_size: float,
        out: State,
    ) -> None:
        weights = self.tableau.interpolant(fraction)
        self._within_last_step(model, state, memory, step_size, weights, out)

    def stage(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        index: int,
        step_size: float,
        out: State,
    ) -> None:
        """Write the arrays that move at a stage of the last step, given the state after it."""
        row = self.tableau.a[index]
        self._within_last_step(model, state, memory, step_size, row, out)

    def _within_last_step(
        self,
        model: Model,
        state: State,
        memory: Memory,
        step_size: float,
        weights: tuple[float, ...],
        out: State,
    ) -> None:
        before = memory.trial if self.adaptive else memory.before
        assert before is not None
        stages = self._stages_of_last_step(model, state, memory)
        _advance(model, before, step_size, weights, stages, out=out)

    def _stages_of_last_step(self, model: Model, state: State, memory: Memory) -> list[State]:
        """Return the velocities that the interpolant combines; one of them may be computed."""
        if self.tableau.first_same_as_last:  # `accept` exchanged the first and the last
            first, *between, last = memory.stages
            return [last, *between, first]
        assert memory.last is not None
        if not memory.last_known:
            velocity(model, state, out=memory.last)
            memory.last_known = True
        return [*memory.stages, memory.last]

    def _compute_sums(self, model: Model, new: State, memory: Memory, step_size: float) -> None:
        """Compute the sums of `_error_norm`; reads A of the new state, which the last stage leaves.

        For each array X, <e_X, e_X>, then what makes up <X, X>, of U in weight space.
        """
        assert memory.error is not None
        assert memory.sums is not None
        assert self.tableau.first_same_as_last
        k, chart, work, number = model.backend, model.chart, model.work, count()
        for name in model.moving:
            terms = _terms(name, step_size, self.tableau.error, memory.stages)
            error, value = getattr(memory.error, name), getattr(new, name)
            k.combine(terms, out=error)
            image = error
            if name == "U":
                if memory.images is None:
                    image = chart.image(error, work.B)
                else:
                    image = self._image_of_error(model, memory, memory.images, step_size)
            memory.sums.dot(next(number), error, image)
            for other in _partners(model, new, name):
                memory.sums.dot(next(number), value, other)

    def _error_norm(self, model: Model, new: State, memory: Memory) -> float:
        """The largest over arrays X of ||e_X||_F / (atol sqrt(size) + rtol ||X||_F)."""
        assert memory.sums is not None
        chart, sums, worst = model.chart, iter(memory.sums.read()), 0.0
        for name in model.moving:
            squared_error = not_negative(next(sums))
            products = list(islice(sums, len(_partners(model, new, name))))
            squared_value = chart.squared_weight_norm(products) if name == "U" else products[0]
            size = model.dimensions.size(name)
            allowed = self.atol * sqrt(size) + self.rtol * sqrt(squared_value)
            norm = sqrt(squared_error) / allowed if allowed > 0 else float("inf")
            if not norm < float("inf"):  # NaN too, which `max` may lose
                return float("inf")
            worst = max(worst, norm)
        return worst

    def _image_of_error(
        self, model: Model, memory: Memory, images: Images, step_size: float
    ) -> Array:
        """Return B = e_U M = alpha (A_new - A) + h (error - alpha b) of G and G_new.

        Leaves G of the new state in ``new_G``; its A is in the workspace.
        """
        k, work, tableau, alpha = (
            model.backend,
            model.work,
            self.tableau,
            self.tableau.solution_share,
        )
        assert alpha is not None
        k.gemm(memory.stages[-1].U, model.chart.matrix, out=images.new_G)
        first, last = (step_size * (tableau.error[i] - alpha * tableau.b[i]) for i in (0, -1))
        terms = [(alpha, work.A), (-alpha, images.A), (first, images.G), (last, images.new_G)]
        k.combine(terms, out=work.B)
        return work.B


def _partners(model: Model, state: State, name: str) -> tuple[Array, ...]:
    """Return the arrays whose inner products with an array X make up <X, X>, of U in weight space.

    Those of U may be A, which is that of the state where the products are computed.
    """
    value = getattr(state, name)
    return model.chart.weight_images(value, model.work.A) if name == "U" else (value,)


def _allocate_sums(model: Model, state: State) -> Sums:
    """Return the sums that `RungeKutta._compute_sums` computes."""
    return model.backend.sums(sum(1 + len(_partners(model, state, name)) for name in model.moving))


def _terms(
    name: str, step_size: float, weights: tuple[float, ...], stages: list[State]
) -> list[tuple[float, object]]:
    return [
        (step_size * weight, getattr(stage, name))
        for weight, stage in zip(weights, stages, strict=False)
        if weight != 0.0
    ]


def _advance(
    model: Model,
    state: State,
    step_size: float,
    weights: tuple[float, ...],
    stages: list[State],
    out: State,
) -> None:
    for name in model.moving:
        terms = [(1.0, getattr(state, name)), *_terms(name, step_size, weights, stages)]
        model.backend.combine(terms, out=getattr(out, name))
