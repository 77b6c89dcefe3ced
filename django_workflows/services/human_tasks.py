"""What people do with their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, OuterRef, QuerySet, Subquery

from django_workflows.conf import settings
from django_workflows.core import commands as c
from django_workflows.core import forms
from django_workflows.core.snapshot import TaskState
from django_workflows.core.steps import HumanStep
from django_workflows.core.values import encode
from django_workflows.engine.assignment import electorate_of
from django_workflows.engine.database import alias
from django_workflows.engine.loader import definition_for, snapshot_of
from django_workflows.engine.locking import lock, locked, uuid_of
from django_workflows.engine.prepared import Prepared
from django_workflows.engine.runner import advance
from django_workflows.exceptions import (
    AlreadyDecided,
    InvalidInput,
    NotAuthorized,
    NotFound,
    TaskClaimed,
    UnknownOutcome,
)
from django_workflows.models import Decision, HumanTask, TaskCandidate, WorkflowInstance
from django_workflows.models.human_tasks import EXCLUDED
from django_workflows.models.keys import user_key
from django_workflows.permissions import is_candidate, policy

from .authority import actor_of, refuse
from .instances import key_of

Task = HumanTask | UUID | str


@dataclass(slots=True, kw_only=True)
class _Held:
    """The locked instance of a task, and how the actor stands to the task.

    ``state`` is ``None`` once the task is closed.
    """

    row: WorkflowInstance
    task_id: Any
    key: str
    state: TaskState | None
    actor: c.Actor
    is_candidate: bool

    @property
    def is_holder(self) -> bool:
        return self.state is not None and self.state.holder == self.actor.id and not self.actor.is_system

    @property
    def step(self) -> HumanStep:
        step = definition_for(self.row.definition_id).step(self.key.rpartition("#")[0])
        if not isinstance(step, HumanStep):
            raise TypeError(f"{self.key} is no human step.")
        return step

    @property
    def task(self) -> HumanTask:
        """The row, read under the lock."""
        return HumanTask.objects.using(alias()).get(pk=self.task_id)


def _hold(task: Task, actor: c.Actor) -> _Held:
    """Lock the task's instance and learn the actor's standing, in one statement.

    A statement that had to wait for the lock has seen the candidates as they were before; ``seen``
    gives that away, and the question is asked again.
    """
    task_id = uuid_of(key_of(task))
    row = None if task_id is None else _WITH_STANDING.first(task=task_id, user=user_key(actor))
    if row is None:
        raise NotFound(f"There is no task {key_of(task)}.", task_id=str(key_of(task)))
    may: bool = actor.is_system or bool(row.may_decide)  # type: ignore[attr-defined]
    if row.seen != row.sequence:  # type: ignore[attr-defined]
        may = actor.is_system or is_candidate_now(task_id, actor)
    key = f"{row.task_step}#{row.task_occurrence}"  # type: ignore[attr-defined]
    token = snapshot_of(row).tokens.get(key)
    state = token.task if token is not None else None
    return _Held(row=row, task_id=task_id, key=key, state=state, actor=actor, is_candidate=may)


def _locked_with_standing(task: Any, user: Any) -> QuerySet[WorkflowInstance]:
    before = WorkflowInstance.objects.filter(pk=OuterRef("pk")).values("sequence")
    return (
        locked()
        .filter(human_tasks__pk=task)
        .annotate(
            task_step=F("human_tasks__step"),
            task_occurrence=F("human_tasks__occurrence"),
            seen=Subquery(before),
            may_decide=ExpressionWrapper(is_candidate(user, task), output_field=BooleanField()),
        )
        .order_by()
    )


_WITH_STANDING = Prepared(
    _locked_with_standing, task=lambda: HumanTask._meta.pk, user=lambda: get_user_model()._meta.pk
)


def is_candidate_now(task_id: Any, actor: c.Actor) -> bool:
    """Whether the actor may decide the task as things stand."""
    return HumanTask.objects.using(alias()).filter(is_candidate(user_key(actor), task_id), pk=task_id).exists()


def _check_candidate(held: _Held, verb: str) -> None:
    """Only a candidate; to anybody else it does not matter what state the task is in."""
    if not held.is_candidate:
        raise refuse(held.actor, f"{verb} the task {held.task.title!r}", needs="being one of its candidates")


def _check_open(held: _Held, verb: str) -> None:
    if held.state is not None:
        return
    task = held.task
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
        raise AlreadyDecided(
            f"{actor.name} has decided this task already.", status="open", task_id=str(key_of(task))
        ) from None


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
    electorate = electorate_of(held.task_id) if live else None
    return c.Decide(by=held.actor, key=held.key, outcome=outcome, comment=comment, form=answers, electorate=electorate)


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
        return advance(held.row, c.Claim(by=actor, key=held.key))


def release(task: Task, *, by: Any) -> WorkflowInstance:
    """Give a claimed task back to all candidates; an administrator may do it for the holder."""
    actor = actor_of(by)
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        forced = not held.is_holder and (actor.is_system or policy().may_administer(by, held.row))
        if not forced:
            _check_candidate(held, "release")
        _check_open(held, "release")
        return advance(held.row, c.Release(by=actor, key=held.key, forced=forced))


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
        _check_not_answered(held)
        return advance(held.row, _reassignment(held, to, text))


def _check_holder(held: _Held, by: Any) -> None:
    """What somebody has claimed, only the holder or an administrator hands on."""
    state = held.state
    if state is None or not state.holder or held.is_holder or held.actor.is_system:
        return
    if not policy().may_administer(by, held.row):
        raise TaskClaimed(
            f"{state.holder_name} holds the task {held.key}; only the holder may reassign it.",
            status=state.status,
            holder=state.holder_name,
        )


def _check_not_answered(held: _Held) -> None:
    """Where several people answer, an answer that has been given cannot be handed on."""
    if held.step.quorum_policy.kind != "any" and _has_answered(held, held.actor):
        raise AlreadyDecided(
            f"{held.actor.name} has answered the task {held.key} already; there is nothing left to hand on.",
            status=held.state.status if held.state else "closed",
            task_id=str(held.task_id),
        )


def _has_answered(held: _Held, actor: c.Actor) -> bool:
    if actor.is_system:
        return False
    return Decision.objects.using(alias()).filter(task=held.task_id, actor=user_key(actor)).exists()


def _reassignment(held: _Held, to: Any, reason: str) -> c.Reassign:
    if isinstance(to, Group):
        return c.Reassign(by=held.actor, key=held.key, reason=reason, group=c.Person(id=str(to.pk), name=to.name))
    target = actor_of(to)
    if target.is_system:
        raise InvalidInput("A task is reassigned to a user or to a group.", field="to")
    rows = TaskCandidate.objects.using(alias()).filter(task=held.task_id, user=user_key(target))
    if rows.filter(kind=EXCLUDED).exists():
        raise NotAuthorized(f"{target.name} may not decide the task {held.task.title!r}.", actor=target.name, needs="")
    several = held.step.quorum_policy.kind != "any"
    if several and (is_candidate_now(held.task_id, target) or _has_answered(held, target)):
        raise InvalidInput(f"{target.name} is a candidate of this task already.", field="to")
    return c.Reassign(by=held.actor, key=held.key, reason=reason, user=c.Person(id=target.id, name=target.name))


def comment(noun: Task | WorkflowInstance, text: str, *, by: Any) -> WorkflowInstance:
    """Add a comment to the history of a task or an instance; everybody who sees it may, also after its end."""
    actor = actor_of(by)
    words = _text(text, "text", required=True)
    if isinstance(noun, WorkflowInstance):
        return _comment_on_instance(noun, words, actor, by)
    task = noun
    with transaction.atomic(using=alias()):
        held = _hold(task, actor)
        if not held.is_candidate and not policy().human_tasks(by).filter(pk=held.task_id).exists():
            raise refuse(actor, f"comment on the task {held.task.title!r}", needs="being allowed to see it")
        return advance(held.row, c.Comment(by=actor, key=held.key, text=words))


def _comment_on_instance(instance: WorkflowInstance, words: str, actor: c.Actor, by: Any) -> WorkflowInstance:
    with transaction.atomic(using=alias()):
        row = lock(instance.pk)
        if not actor.is_system and not policy().instances(by).filter(pk=row.pk).exists():
            raise refuse(actor, f"comment on {row}", needs="being allowed to see it")
        return advance(row, c.Comment(by=actor, text=words))
