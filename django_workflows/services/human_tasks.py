"""What people do with their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Subquery

from django_workflows.conf import settings
from django_workflows.core import commands as c
from django_workflows.core import forms
from django_workflows.core.steps import HumanStep
from django_workflows.core.values import encode
from django_workflows.engine.assignment import electorate_of
from django_workflows.engine.loader import definition_for
from django_workflows.engine.locking import alias, locked
from django_workflows.engine.runner import advance
from django_workflows.exceptions import AlreadyDecided, InvalidInput, NotAuthorized, NotFound, TaskClaimed, UnknownOutcome
from django_workflows.models import HumanTask, WorkflowInstance
from django_workflows.models.human_tasks import EXCLUDED
from django_workflows.permissions import is_candidate, policy
from django_workflows.states import TASK_OPEN

from .authority import actor_of, refuse
from .instances import key_of

Task = HumanTask | UUID | str


@dataclass(slots=True, kw_only=True)
class _Held:
    """The locked instance of a task, and how the actor stands to the task."""

    row: WorkflowInstance
    task: HumanTask
    actor: c.Actor
    is_candidate: bool

    @property
    def is_holder(self) -> bool:
        return not self.actor.is_system and str(self.task.assignee_id or "") == self.actor.id

    @property
    def step(self) -> HumanStep:
        step = definition_for(self.row.definition_id).step(self.task.step)
        if not isinstance(step, HumanStep):
            raise TypeError(f"{self.task.step} is no human step.")
        return step


def _hold(task: Task, actor: c.Actor) -> _Held:
    """Lock the task's instance first, then read the task and the actor's standing."""
    key = key_of(task)
    try:
        row = locked().filter(pk=Subquery(HumanTask.objects.filter(pk=key).values("instance")[:1])).first()
    except (ValidationError, ValueError):
        row = None
    if row is None:
        raise NotFound(f"There is no task {key}.", task_id=str(key))
    tasks = HumanTask.objects.using(alias()).filter(pk=key)
    if actor.is_system:
        return _Held(row=row, task=tasks.get(), actor=actor, is_candidate=True)
    found = tasks.annotate(may_decide=is_candidate(actor)).get()
    return _Held(row=row, task=found, actor=actor, is_candidate=found.may_decide)


def _check_candidate(held: _Held, verb: str) -> None:
    """Only a candidate; to anybody else it does not matter what state the task is in."""
    if not held.is_candidate:
        raise refuse(held.actor, f"{verb} the task {held.task.title!r}", needs="being one of its candidates")


def _check_open(held: _Held, verb: str) -> None:
    task = held.task
    if task.status not in TASK_OPEN:
        how = f"{task.status} as {task.outcome}" if task.outcome else task.status
        raise AlreadyDecided(
            f"The task {task.title!r} is {how}; nobody can {verb} it any more.",
            status=task.status,
            outcome=task.outcome,
            decided_by=task.completed_by_name,
        )


def decide(
    task: Task, outcome: str, *, by: Any, comment: str = "", form: Mapping[str, Any] | None = None
) -> WorkflowInstance:
    """Answer a task. Returns the instance, which may have gone on or ended by it.

    Raises ``NotFound``, ``NotAuthorized``, ``UnknownOutcome``, ``InvalidForm``, ``InvalidInput`` for a
    missing comment, ``TaskClaimed`` if somebody else holds it, or ``AlreadyDecided``.
    """
    actor = actor_of(by)
    answers = _answers(form)
    text = _text(comment, "comment")
    try:
        with transaction.atomic(using=alias()):
            held = _hold(task, actor)
            _check_candidate(held, "decide")
            _check_open(held, "decide")
            return advance(held.row, _decision(held, outcome, answers, text))
    except IntegrityError as error:
        if "wf_decision_one_per_actor" not in str(error) and "decision.actor_id" not in str(error):
            raise
        raise AlreadyDecided(f"{actor.name} has decided this task already.", status="open", task_id=str(key_of(task))) from None


def _decision(held: _Held, outcome: str, answers: dict[str, Any], comment: str) -> c.Decide:
    """The command, once the outcome, the form and the electorate have been looked at."""
    step = held.step
    if outcome not in step.outcomes:
        raise UnknownOutcome(
            f"{outcome!r} is no outcome of {step.name!r}; allowed: {', '.join(step.outcomes)}.",
            outcome=outcome,
            allowed=step.outcomes,
        )
    if step.form is not None:
        answers = forms.clean(step.form, answers)
    live = step.quorum_policy.kind != "any" and step.assign.membership == "live"
    electorate = electorate_of(held.task.pk) if live else None
    return c.Decide(
        by=held.actor, key=held.task.key, outcome=outcome, comment=comment, form=answers, electorate=electorate
    )


def _answers(form: Mapping[str, Any] | None) -> dict[str, Any]:
    if form is not None and not isinstance(form, Mapping):
        raise InvalidInput(f"Form data is an object, not {type(form).__name__}.", field="form")
    found: dict[str, Any] = encode(dict(form or {}), max_bytes=settings.MAX_PAYLOAD_BYTES)
    return found


def _text(text: Any, field: str, *, required: bool = False) -> str:
    """A text of a person, within the size limit and without what a database refuses."""
    if not isinstance(text, str):
        raise InvalidInput(f"{field} is a text, not {type(text).__name__}.", field=field)
    if required and not text.strip():
        raise InvalidInput(f"{field} must not be empty.", field=field)
    found: str = encode(text, max_bytes=settings.MAX_PAYLOAD_BYTES)
    return found


def claim(task: Task, *, by: Any) -> WorkflowInstance:
    """Take a group's task into one's own hands; nobody else can decide it then.

    Raises ``TaskClaimed`` (with the holder's name) if somebody was faster.
    """
    actor = actor_of(by)
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        _check_candidate(held, "claim")
        _check_open(held, "claim")
        return advance(held.row, c.Claim(by=actor, key=held.task.key))


def release(task: Task, *, by: Any) -> WorkflowInstance:
    """Give a claimed task back to all candidates; an administrator may do it for the holder."""
    actor = actor_of(by)
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        forced = not held.is_holder and (actor.is_system or policy().may_administer(by, held.row))
        if not forced:
            _check_candidate(held, "release")
        _check_open(held, "release")
        return advance(held.row, c.Release(by=actor, key=held.task.key, forced=forced))


def reassign(task: Task, *, by: Any, to: Any, reason: str) -> WorkflowInstance:
    """Hand a task on to a user or a group, for good. Its candidates may, and an administrator.

    Where several people answer, a candidate hands on only the own answer. Who may not decide the
    task (separation of duties) cannot be given it: ``NotAuthorized``.
    """
    actor = actor_of(by)
    text = _text(reason, "reason", required=True)
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        if actor.is_system or not policy().may_administer(by, held.row):
            _check_candidate(held, "reassign")
        _check_open(held, "reassign")
        _check_holder(held, by)
        return advance(held.row, _reassignment(held, to, text))


def _check_holder(held: _Held, by: Any) -> None:
    """What somebody has claimed, only the holder or an administrator hands on."""
    task = held.task
    if task.assignee_id is None or held.is_holder or held.actor.is_system or policy().may_administer(by, held.row):
        return
    raise TaskClaimed(
        f"{task.assignee_name} holds the task {task.title!r}; only the holder may reassign it.",
        status=task.status,
        holder=task.assignee_name,
    )


def _reassignment(held: _Held, to: Any, reason: str) -> c.Reassign:
    if isinstance(to, Group):
        return c.Reassign(
            by=held.actor, key=held.task.key, reason=reason, group=c.Person(id=str(to.pk), name=to.name)
        )
    target = actor_of(to)
    if target.is_system:
        raise InvalidInput("A task is reassigned to a user or to a group.", field="to")
    rows = held.task.candidates.filter(user=target.id)
    if rows.filter(kind=EXCLUDED).exists():
        raise NotAuthorized(f"{target.name} may not decide the task {held.task.title!r}.", actor=target.name, needs="")
    if held.step.quorum_policy.kind != "any" and is_candidate_now(held.task, target):
        raise InvalidInput(f"{target.name} is a candidate of this task already.", field="to")
    return c.Reassign(by=held.actor, key=held.task.key, reason=reason, user=c.Person(id=target.id, name=target.name))


def is_candidate_now(task: HumanTask, actor: c.Actor) -> bool:
    """Whether the actor may decide the task as things stand."""
    return HumanTask.objects.using(alias()).filter(is_candidate(actor), pk=task.pk).exists()


def comment(task: Task, text: str, *, by: Any) -> WorkflowInstance:
    """Add a comment to the history of a task; everybody who sees the task may, also after it is closed."""
    actor = actor_of(by)
    words = _text(text, "text", required=True)
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        if not held.is_candidate and not policy().human_tasks(by).filter(pk=held.task.pk).exists():
            raise refuse(actor, f"comment on the task {held.task.title!r}", needs="being allowed to see it")
        return advance(held.row, c.Comment(by=actor, key=held.task.key, text=words))
