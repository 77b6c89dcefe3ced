"""Where a way ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django_workflows.core.definition import Definition, Step
from django_workflows.core.validation import Problem

from .base import step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token


@step_type("end")
@dataclass(frozen=True, slots=True, kw_only=True)
class EndStep(Step):
    """Ends its branch, and with ``terminate`` the whole instance, whatever else is open."""

    shape: ClassVar[str] = "end"

    outcome: str = ""
    terminate: bool = False

    def enter(self, run: Run, token: Token) -> None:
        run.emit_started(token)
        result = {"outcome": self.outcome, "output": None}
        run.complete(token, outcome=self.outcome, result=result, ends=bool(self.outcome))
        if self.terminate:
            run.finish()

    def problems(self, definition: Definition) -> Iterator[Problem]:
        if definition.exits[self.name]:
            yield Problem(code="end_with_exit", place=f"steps.{self.name}", message="an end has no way out")
