"""The parallel gateway's opening half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django_workflows.core.definition import Definition, Edge, Step
from django_workflows.core.validation import Problem

from .base import never_skipped, step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token


@step_type("fork")
@dataclass(frozen=True, slots=True, kw_only=True)
class ForkStep(Step):
    """Takes every way out that has no condition or a true one; ``otherwise`` only if there is none."""

    shape: ClassVar[str] = "bar"
    chooses: ClassVar[bool] = True

    def enter(self, run: Run, token: Token) -> None:
        run.emit_started(token)
        edges = self._choose(run)
        if not edges:
            run.raise_incident(
                token,
                kind="no_branch",
                message=f"No branch of {self.name!r} is open, and it has no otherwise.",
                suggested_action="Correct the data and retry the step.",
            )
            return
        taken = [edge.target for edge in edges]
        run.complete(
            token,
            outcome="forked",
            result={"outcome": "forked", "output": taken},
            follow=edges,
            opens=len(edges),
        )

    def _choose(self, run: Run) -> tuple[Edge, ...]:
        exits = run.definition.exits[self.name]
        taken = tuple(e for e in exits if not e.otherwise and (not e.condition or run.is_true(e.condition)))
        return taken or tuple(edge for edge in exits if edge.otherwise)

    def problems(self, definition: Definition) -> Iterator[Problem]:
        yield from never_skipped(self)
        if len(definition.exits[self.name]) < 2:
            yield Problem(
                code="fork_without_branches",
                place=f"steps.{self.name}",
                message="a fork needs at least two ways out",
            )
