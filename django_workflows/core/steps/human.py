"""A question put to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django_workflows.core import forms
from django_workflows.core.commands import AnswerAssignment, Decide
from django_workflows.core.definition import Definition, Step
from django_workflows.core.durations import parse_duration
from django_workflows.core.effects import ResolveAssignment
from django_workflows.core.events import EventName
from django_workflows.core.human_tasks import Quorum, evaluate
from django_workflows.core.validation import Problem, duration_problems, expression_problems, form_problems
from django_workflows.exceptions import (
    AlreadyDecided,
    InvalidInput,
    TaskClaimed,
    TransitionNotAllowed,
    UnknownOutcome,
)
from django_workflows.states import TASK_OPEN

from .base import step_type

if TYPE_CHECKING:
    from django_workflows.core.run import Run
    from django_workflows.core.snapshot import TaskState, Token

MEMBERSHIPS: Final = ("live", "snapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who may decide. What the fields name adds up.

    ``users`` are user names, ``groups`` group names, ``expression`` gives a user name or a list of
    them (or ``{"users": […], "groups": […]}``), ``function`` is the name of a registered function
    that returns users, groups or names, called with ``arguments``. ``membership`` says whether
    somebody who joins a group later may decide (``live``) or only who was in it when the step
    opened (``snapshot``).
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    expression: str = ""
    function: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    membership: str = "live"

    def __or__(self, other: Assignment) -> Assignment:
        """Both together; at most one of them may have an expression, and one a function."""
        for name in ("expression", "function"):
            if getattr(self, name) and getattr(other, name):
                raise TypeError(f"Two assignments that both have {name}= cannot be joined; write one that does both.")
        return replace(
            self,
            users=(*self.users, *other.users),
            groups=(*self.groups, *other.groups),
            expression=self.expression or other.expression,
            function=self.function or other.function,
            arguments={**self.arguments, **other.arguments},
            membership="snapshot" if "snapshot" in (self.membership, other.membership) else "live",
        )

    @property
    def is_empty(self) -> bool:
        return not (self.users or self.groups or self.expression or self.function)


@step_type("human")
@dataclass(frozen=True, slots=True, kw_only=True)
class HumanStep(Step):
    """Creates a human task and waits for its outcome.

    ``form`` is the JSON Schema of the answer's data; ``merge`` names the form fields that are also
    written to the instance's data (``*`` for all). ``due`` and ``remind`` are durations: how long
    after creation the task is due, and how long before that people are reminded. ``exclude`` names
    who may not decide although a candidate: ``initiator``, or a step whose deciders are meant.
    """

    shape: ClassVar[str] = "human"
    expressions: ClassVar[Mapping[str, str]] = {"condition": "bool", "skip_if": "bool"}
    templates: ClassVar[tuple[str, ...]] = ("title", "instructions")

    assign: Assignment = field(default_factory=Assignment)
    instructions: str = ""
    outcomes: tuple[str, ...] = ("completed",)
    labels: Mapping[str, str] = field(default_factory=dict)
    comment_required: tuple[str, ...] = ()
    form: Mapping[str, Any] | None = None
    merge: tuple[str, ...] = ()
    due: str = ""
    remind: tuple[str, ...] = ()
    priority: int = 0
    exclude: tuple[str, ...] = ()
    claim_required: bool = False

    @property
    def quorum_policy(self) -> Quorum:
        return Quorum()

    def outcomes_offered(self) -> tuple[str, ...]:
        return self.outcomes

    def enter(self, run: Run, token: Token) -> None:
        run.emit_started(token, waiting=True)
        run.ask(ResolveAssignment(key=token.key))

    def assigned(self, run: Run, token: Token, answer: AnswerAssignment) -> None:
        """The candidates are known: create the task."""
        due = run.now + parse_duration(self.due) if self.due else None
        run.emit(
            EventName.HUMAN_TASK_CREATED,
            token,
            title=run.text(self.title) or self.label,
            description=run.text(self.instructions) or self.description,
            candidates={
                "users": [{"id": p.id, "name": p.name} for p in answer.users],
                "groups": [{"id": p.id, "name": p.name} for p in answer.groups],
                "excluded": [{"id": p.id, "name": p.name} for p in answer.excluded],
            },
            electorate=answer.electorate,
            due_at=due.isoformat() if due else None,
            priority=self.priority,
            resolution=dict(answer.resolution),
        )
        if len(answer.users) == 1 and not answer.groups and self.quorum_policy.kind == "any":
            only = answer.users[0]
            run.emit(EventName.HUMAN_TASK_ASSIGNED, token, assignee={"id": only.id, "name": only.name})
        if due:
            self._arm_timers(run, token, due)
        self._check_electorate(run, token, answer)

    def _arm_timers(self, run: Run, token: Token, due: datetime) -> None:
        run.arm(token, "due", due)
        for number, before in enumerate(self.remind):
            run.arm(token, f"remind:{number}", due - parse_duration(before))

    def _check_electorate(self, run: Run, token: Token, answer: AnswerAssignment) -> None:
        needed = self.quorum_policy.needed(answer.electorate)
        if not answer.found:
            run.raise_incident(
                token,
                kind="nobody_to_assign",
                message=f"Nobody was found who may decide {self.name!r}.",
                suggested_action="Reassign the task, or correct the step's assignment.",
                blocking=False,
            )
        elif answer.electorate < needed:
            run.raise_incident(
                token,
                kind="quorum_out_of_reach",
                message=f"{self.name!r} needs {needed} positive answers, but only {answer.electorate} may decide.",
                suggested_action="Add candidates, or skip the step with a declared outcome.",
                blocking=False,
            )

    def timer_fired(self, run: Run, token: Token, timer: str) -> None:
        due_at = run.fired_due_at
        if timer == "due":
            run.emit(EventName.HUMAN_TASK_OVERDUE, token, due_at=due_at)
        elif timer.startswith("remind:"):
            run.emit(EventName.HUMAN_TASK_REMINDED, token, due_at=due_at)

    def check_decision(self, task: TaskState, command: Decide) -> None:
        """Refuse what may not be answered; authority and form have been looked at before."""
        if task.status not in TASK_OPEN:
            raise AlreadyDecided(
                f"The task {command.key} is {task.status}; it cannot be decided any more.",
                status=task.status,
                key=command.key,
            )
        if task.claimed and task.holder != command.by.id and not command.by.is_system:
            raise TaskClaimed(
                f"{task.holder_name} holds the task {command.key}; only the holder may decide it. "
                "It can be released or reassigned.",
                status=task.status,
                holder=task.holder_name,
            )
        if self.claim_required and not task.claimed and not task.holder and not command.by.is_system:
            raise TransitionNotAllowed(
                f"The task {command.key} must be claimed before it is decided.",
                status=task.status,
                key=command.key,
            )
        self._check_answer(command)

    def _check_answer(self, command: Decide) -> None:
        if command.outcome not in self.outcomes:
            raise UnknownOutcome(
                f"{command.outcome!r} is no outcome of {self.name!r}; allowed: {', '.join(self.outcomes)}.",
                outcome=command.outcome,
                allowed=self.outcomes,
            )
        if command.outcome in self.comment_required and not command.comment.strip():
            raise InvalidInput(f"{command.outcome!r} needs a comment.", outcome=command.outcome, field="comment")

    def decide(self, run: Run, token: Token, command: Decide) -> None:
        if token.task is None:
            raise TransitionNotAllowed(f"{token.key} waits for no decision.", status=token.status, key=token.key)
        self.check_decision(token.task, command)
        counts = {**token.task.counts, command.outcome: token.task.counts.get(command.outcome, 0) + 1}
        electorate = token.task.electorate if command.electorate is None else command.electorate
        verdict = evaluate(self.quorum_policy, self.outcomes, counts, electorate)
        run.emit(
            EventName.HUMAN_TASK_DECIDED,
            token,
            outcome=command.outcome,
            form=dict(command.form),
            comment=command.comment,
            verdict=verdict.reason,
        )
        if verdict.outcome:
            run.close_timers(token, "decided")
            run.emit(
                EventName.HUMAN_TASK_COMPLETED,
                token,
                outcome=verdict.outcome,
                duration=run.seconds_since(token.since),
                counts=counts,
                electorate=electorate,
            )
            self._finish(run, token, command, verdict.outcome)

    def _finish(self, run: Run, token: Token, command: Decide, outcome: str) -> None:
        wanted = command.form if "*" in self.merge else {k: v for k, v in command.form.items() if k in self.merge}
        run.complete(
            token,
            outcome=outcome,
            result={
                "outcome": outcome,
                "output": dict(command.form),
                "form": dict(command.form),
                "by": command.by.name,
                "comment": command.comment,
            },
            changes=dict(wanted),
            decided=True,
        )

    def problems(self, definition: Definition) -> Iterator[Problem]:
        place = f"steps.{self.name}"
        if self.assign.is_empty:
            yield Problem(code="no_assignment", place=f"{place}.assign", message="nobody is named who may decide")
        if self.assign.membership not in MEMBERSHIPS:
            yield Problem(
                code="unknown_membership",
                place=f"{place}.assign.membership",
                message=f"{self.assign.membership!r} is unknown; allowed: {', '.join(MEMBERSHIPS)}",
            )
        if self.assign.expression:
            yield from expression_problems(self.assign.expression, f"{place}.assign.expression", "value")
        yield from _outcome_problems(self)
        for text in (self.due, *self.remind):
            yield from duration_problems(text, f"{place}.due")
        if self.remind and not self.due:
            yield Problem(code="remind_without_due", place=f"{place}.remind", message="a reminder needs a due date")
        yield from form_problems(self.form, f"{place}.form")
        yield from _exclusion_problems(self, definition)


def _outcome_problems(step: HumanStep) -> Iterator[Problem]:
    place = f"steps.{step.name}"
    if not step.outcomes or len(set(step.outcomes)) != len(step.outcomes) or not all(step.outcomes):
        yield Problem(code="invalid_outcomes", place=f"{place}.outcomes", message="outcomes must be named, each once")
    for field_name in ("labels", "comment_required"):
        for outcome in getattr(step, field_name):
            if outcome not in step.outcomes:
                yield Problem(
                    code="unknown_outcome",
                    place=f"{place}.{field_name}",
                    message=f"{outcome!r} is no outcome of this step; its outcomes: {', '.join(step.outcomes)}",
                )
    fields = set(forms.properties_of(step.form or {}))
    for name in step.merge:
        if name != "*" and name not in fields:
            yield Problem(code="unknown_field", place=f"{place}.merge", message=f"the form has no field {name!r}")


def _exclusion_problems(step: HumanStep, definition: Definition) -> Iterator[Problem]:
    for name in step.exclude:
        if name != "initiator" and not isinstance(definition.by_name.get(name), HumanStep):
            yield Problem(
                code="unknown_step",
                place=f"steps.{step.name}.exclude",
                message=f"{name!r} is neither 'initiator' nor a step that people decide",
            )
