"""The parallel gateway's closing half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from django_workflows.core.definition import Definition, Step
from django_workflows.core.events import EventName
from django_workflows.core.validation import Problem
from django_workflows.states import StepStatus

from .base import never_skipped, step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token

WAITS: Final = ("all", "any", "count")


@step_type("join")
@dataclass(frozen=True, slots=True, kw_only=True)
class JoinStep(Step):
    """Goes on once, when ``all`` living branches, ``any`` one or ``count`` of them have arrived.

    What is still open inside the fork then is canceled.
    """

    shape: ClassVar[str] = "bar"

    wait: str = "all"
    count: int = 0

    def enter(self, run: Run, token: Token) -> None:
        if token.arrived == 0:
            run.emit_started(token, waiting=True)
        self.arrive(run, token)

    def arrive(self, run: Run, token: Token) -> None:
        """One more branch is here."""
        live, arrived = run.snapshot.scopes[token.scope].live, run.token(token.key).arrived + 1
        run.emit(
            EventName.STEP_PROGRESS,
            token,
            text=f"{arrived} of {live} branches arrived",
            fraction=round(arrived / live, 4),
            metadata={},
            arrived=arrived,
            status=StepStatus.FAILED if token.incidents else StepStatus.WAITING,
        )
        self.settle(run, token)

    def settle(self, run: Run, token: Token) -> None:
        """Go on if enough have arrived; raise an incident if enough never can."""
        live, arrived = run.snapshot.scopes[token.scope].live, run.token(token.key).arrived
        needed = {"all": live, "any": 1}.get(self.wait, self.count)
        if arrived >= needed:
            self.go_on(run, token)
        elif live < needed and not token.incidents:
            run.raise_incident(
                token,
                kind="join_out_of_reach",
                message=f"{self.name!r} waits for {needed} branches, but only {live} can still arrive.",
                suggested_action="Skip the step to go on without them, or cancel the instance.",
            )

    def go_on(self, run: Run, token: Token) -> None:
        """Close the fork and leave it, with whatever has arrived."""
        live, arrived = run.snapshot.scopes[token.scope].live, run.token(token.key).arrived
        run.close_scope(token.scope, but=token.key)
        result = {"outcome": "joined", "output": {"arrived": arrived, "of": live}}
        run.complete(token, outcome="joined", result=result, closes=token.scope)

    def problems(self, definition: Definition) -> Iterator[Problem]:
        yield from never_skipped(self)
        if self.wait not in WAITS:
            yield Problem(
                code="unknown_wait",
                place=f"steps.{self.name}.wait",
                message=f"{self.wait!r} is unknown; allowed: {', '.join(WAITS)}",
            )
        branches = len(definition.entries[self.name])
        if self.wait == "count" and not 1 <= self.count <= max(branches, 1):
            yield Problem(
                code="invalid_count",
                place=f"steps.{self.name}.count",
                message=f"the count must lie between 1 and the {branches} branches that meet here, not {self.count}",
            )
