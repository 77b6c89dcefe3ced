"""A step that waits for a moment, holding no worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django_workflows.core.commands import AnswerFunction
from django_workflows.core.definition import Definition, Step
from django_workflows.core.durations import parse_duration
from django_workflows.core.effects import CallFunction
from django_workflows.core.validation import Problem, duration_problems
from django_workflows.exceptions import InvalidValue

from .base import step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import Token


@step_type("timer")
@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStep(Step):
    """Waits for a ``duration``, ``until`` a moment an expression gives, or for what ``function`` says.

    ``until`` and ``function`` give an RFC 3339 time (with offset; without one it is UTC), or a
    duration in seconds or in words.
    """

    shape: ClassVar[str] = "timer"
    functions: ClassVar[tuple[str, ...]] = ("guard", "function")
    expressions: ClassVar[Mapping[str, str]] = {"condition": "bool", "skip_if": "bool", "until": "value"}

    duration: str = ""
    until: str = ""
    function: str = ""

    def enter(self, run: Run, token: Token) -> None:
        run.emit_started(token, waiting=True)
        if self.function:
            run.ask(CallFunction(key=token.key, purpose="until", function=self.function))
            return
        value = run.value(self.until) if self.until else self.duration
        run.arm(token, "sleep", moment(value, run.now))

    def answered(self, run: Run, token: Token, answer: AnswerFunction) -> None:
        run.arm(token, "sleep", moment(answer.value, run.now))

    def timer_fired(self, run: Run, token: Token, timer: str) -> None:
        run.complete(token, outcome="fired", result={"outcome": "fired", "output": None})

    def problems(self, definition: Definition) -> Iterator[Problem]:
        given = [name for name in ("duration", "until", "function") if getattr(self, name)]
        if len(given) != 1:
            yield Problem(
                code="invalid_timer",
                place=f"steps.{self.name}",
                message="exactly one of duration, until and function must be given",
            )
        yield from duration_problems(self.duration, f"steps.{self.name}.duration")


def moment(value: Any, now: datetime) -> datetime:
    """The time that ``value`` (a time, its text, or a duration from ``now``) means."""
    if isinstance(value, str) and value[:4].isdigit() and "-" in value:
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidValue(f"{value!r} is no time: {error}", path="$") from error
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return now + parse_duration(value)
