"""The exclusive gateway: the first true condition, in drawing order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django_workflows.core.definition import Definition, Edge, Step
from django_workflows.core.validation import Problem

from .base import step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token


@step_type("decision")
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionStep(Step):
    """Takes exactly one way out; no match and no ``otherwise`` is an incident."""

    shape: ClassVar[str] = "diamond"
    chooses: ClassVar[bool] = True

    def enter(self, run: Run, token: Token) -> None:
        run.emit_started(token)
        edge = self._choose(run)
        if edge is None:
            run.raise_incident(
                token,
                kind="no_branch",
                message=f"No condition of {self.name!r} is true, and it has no otherwise.",
                suggested_action="Correct the data and retry the step, or skip it.",
            )
            return
        run.complete(token, outcome=edge.target, result={"outcome": edge.target, "output": None}, follow=(edge,))

    def _choose(self, run: Run) -> Edge | None:
        otherwise = None
        for edge in run.definition.exits[self.name]:
            if edge.otherwise or not edge.condition:
                otherwise = otherwise or edge
            elif run.is_true(edge.condition):
                return edge
        return otherwise

    def problems(self, definition: Definition) -> Iterator[Problem]:
        plain = [edge for edge in definition.exits[self.name] if not edge.condition]
        if len(plain) > 1:
            yield Problem(
                code="two_otherwise",
                place=f"steps.{self.name}",
                message=f"only one way out may be without a condition, not {len(plain)}",
            )
        if definition.exits[self.name] and not plain:
            yield Problem(
                code="no_otherwise",
                place=f"steps.{self.name}",
                severity="warning",
                message="no way out is taken when every condition is false; add an otherwise",
            )
