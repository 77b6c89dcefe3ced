"""A step that calls code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from django_workflows.core.definition import Definition, Step
from django_workflows.core.durations import parse_duration
from django_workflows.core.effects import EnqueueStep, RunInline
from django_workflows.core.events import EventName
from django_workflows.core.retry import Retry
from django_workflows.core.validation import Problem, duration_problems, expression_problems
from django_workflows.states import StepStatus

from .base import step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token

AT_MOST_ONCE: Final = "at_most_once"
MODES: Final = ("inline", "transactional", "at_least_once", AT_MOST_ONCE)

#: The outcome under which an edge takes up a failure.
FAILED: Final = "failed"


@step_type("machine")
@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStep(Step):
    """Calls the registered ``function(ctx, **arguments)``; what it returns is the step's output.

    ``arguments`` maps a parameter to the expression that gives its value. ``mode`` states the
    promise (see the documentation on delivery). ``timeout`` is a duration: a body that takes longer
    is stopped where it can be, and counts as a failed attempt. An edge for the outcome ``failed`` takes up what
    has failed for good; without one the failure becomes an incident.
    """

    functions: ClassVar[tuple[str, ...]] = ("guard", "function", "on_success", "on_failure")

    function: str
    mode: str = "at_least_once"
    retry: Retry = field(default_factory=Retry)
    arguments: Mapping[str, str] = field(default_factory=dict)
    on_success: str = ""
    on_failure: str = ""
    outcomes: tuple[str, ...] = ()
    timeout: str = ""

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds, if there is one."""
        return parse_duration(self.timeout).total_seconds() if self.timeout else None

    def enter(self, run: Run, token: Token) -> None:
        if self.mode == "inline":
            run.emit_started(token)
            run.ask(RunInline(key=token.key, attempt=token.attempt))
            return
        run.emit_opened(EventName.STEP_SCHEDULED, token, StepStatus.SCHEDULED)
        run.do(EnqueueStep(key=token.key, attempt=token.attempt))

    def timer_fired(self, run: Run, token: Token, timer: str) -> None:
        if timer == "retry":
            self.enter(run, token)

    def outcomes_offered(self) -> tuple[str, ...]:
        return (*self.outcomes, FAILED)

    def problems(self, definition: Definition) -> Iterator[Problem]:
        if self.mode not in MODES:
            yield Problem(
                code="unknown_mode",
                place=f"steps.{self.name}.mode",
                message=f"{self.mode!r} is no delivery mode; allowed: {', '.join(MODES)}",
            )
        for text in self.retry.problems():
            yield Problem(code="invalid_retry", place=f"steps.{self.name}.retry", message=text)
        if self.mode == "inline" and self.retry.attempts > 1:
            yield Problem(
                code="retry_inline",
                place=f"steps.{self.name}.retry",
                message="an inline step is part of the transaction that reaches it and cannot be retried",
            )
        if self.mode == AT_MOST_ONCE and self.retry.attempts > 1:
            yield Problem(
                code="retry_at_most_once",
                place=f"steps.{self.name}.retry",
                message="a step that is never repeated cannot be retried; an incident asks a person",
            )
        yield from self._timeout_problems()
        for name, text in self.arguments.items():
            yield from expression_problems(text, f"steps.{self.name}.arguments.{name}", "value")

    def _timeout_problems(self) -> Iterator[Problem]:
        place = f"steps.{self.name}.timeout"
        wrong = list(duration_problems(self.timeout, place))
        yield from wrong
        if self.timeout and self.mode == "inline":
            yield Problem(
                code="timeout_inline",
                place=place,
                message="an inline step is part of somebody's transaction and cannot be stopped alone",
            )
        elif self.timeout and not wrong and not self.seconds:
            yield Problem(code="invalid_duration", place=place, message="a step needs more than no time at all")
