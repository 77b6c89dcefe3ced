"""What may be asked of an instance. Every command names who asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: a user (``id`` is the primary key as text), or the system (``id`` is empty)."""

    id: str = ""
    name: str = "system"
    on_behalf_of: str = ""

    @property
    def is_system(self) -> bool:
        return not self.id


SYSTEM = Actor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    by: Actor = SYSTEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Command):
    data: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Command):
    """``force`` closes steps that are at work too, instead of letting them end."""

    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Command):
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Command):
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailInstance(Command):
    error: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Command):
    """Look whether the instance is through; for one that nothing moves any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHold(Command):
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftHold(Command):
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptInstance(Command):
    """The worker of a transient instance was lost; ``give_up`` ends the instance as failed."""

    attempt: int
    worker: str = ""
    give_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclude(Command):
    """A transient instance has run to its end: with an outcome, or with an error."""

    attempt: int
    outcome: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(Command):
    text: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCommand(Command):
    """Aimed at one open step execution, by its key ``name#occurrence``."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartStep(StepCommand):
    """A worker takes up the attempt."""

    attempt: int
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteStep(StepCommand):
    attempt: int
    input: Any = None
    output: Any = None
    outcome: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    removed: Sequence[str] = ()
    reports: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailStep(StepCommand):
    """The body raised; ``retry_in`` is the policy's answer, ``None`` to give up."""

    attempt: int
    error: str
    error_type: str
    traceback: str = ""
    retryable: bool = True
    retry_in: timedelta | None = None
    #: The step's limit in seconds, if that is what it failed by.
    timed_out_after: float | None = None
    reports: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep(StepCommand):
    """The body stopped at a checkpoint because the instance is being canceled."""

    attempt: int
    reports: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptStep(StepCommand):
    """The worker of this attempt was lost; ``give_up`` ends the recoveries with an incident."""

    attempt: int
    worker: str = ""
    give_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportStep(StepCommand):
    """Progress, and actions inside the step: each report is an event name and its payload."""

    attempt: int
    reports: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStep(StepCommand):
    """By hand, after an incident; ``changes`` edit the data first."""

    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipStep(StepCommand):
    """By hand: the step counts as done with the declared output and outcome."""

    reason: str
    output: Any = None
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseIncident(StepCommand):
    """What the engine noticed about an open step execution that nothing will move any more."""

    kind: str
    message: str
    suggested_action: str
    error_type: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissIncident(StepCommand):
    """By hand: an incident that stops nothing has been seen to."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FireTimer(StepCommand):
    """``key`` is empty for a timer of the instance as a whole."""

    timer: str
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(StepCommand):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(StepCommand):
    #: An operator may take a task out of somebody else's hands.
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user or a group as a candidate: primary key as text, and the name people know."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassign(StepCommand):
    reason: str
    user: Person | None = None
    group: Person | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide(StepCommand):
    """One person's answer; ``electorate`` is how many may answer now, where membership is live."""

    outcome: str
    comment: str = ""
    form: Mapping[str, Any] = field(default_factory=dict)
    electorate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerAssignment(StepCommand):
    """Who may decide: the engine's answer to ``ResolveAssignment``.

    ``found`` is false where the rule named nobody and the fallback group (if any) stands in.
    """

    users: tuple[Person, ...] = ()
    groups: tuple[Person, ...] = ()
    excluded: tuple[Person, ...] = ()
    electorate: int = 0
    found: bool = True
    resolution: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFunction(StepCommand):
    """The value of a registered function: the engine's answer to ``CallFunction``."""

    purpose: str
    value: Any = None
    error: str = ""
    error_type: str = ""
