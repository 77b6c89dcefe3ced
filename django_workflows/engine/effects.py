"""Answering the core's questions, and doing what it asks to be done outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

from django.db import transaction

from django_workflows.core import commands as c
from django_workflows.core.definition import Definition
from django_workflows.core.effects import (
    CallFunction,
    Effect,
    EnqueueInstance,
    EnqueueStep,
    Question,
    ResolveAssignment,
    RunInline,
)
from django_workflows.core.events import Event
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.core.steps import HumanStep
from django_workflows.core.values import encode
from django_workflows.exceptions import StepError, mark_step
from django_workflows.models import WorkflowInstance
from django_workflows.registry import function_named
from django_workflows.states import InstanceStatus

from .assignment import resolve
from .bodies import call_body, failure_of, machine_step, succeeded
from .context import StepContext, describe
from .database import alias
from .executors import Job, executor
from .reporting import Reporter

_BY_ENGINE = (c.CompleteStep, c.FailStep, c.FireTimer, c.InterruptStep, c.StopStep, c.Settle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a transition stands when a question is asked; ``events`` are those not yet recorded."""

    row: WorkflowInstance
    definition: Definition
    snapshot: Snapshot
    events: Sequence[Event]
    command: c.Command

    @property
    def is_driven_by_engine(self) -> bool:
        """Whether nobody waits for the answer: a job or a timer is what moves the instance."""
        return isinstance(self.command, _BY_ENGINE)


@singledispatch
def answer(question: Question, moment: Moment) -> c.Command:
    """The command that answers a question, found within the transaction that is open."""
    raise TypeError(f"No answer is known to {question!r}.")


@answer.register
def _run_inline(question: RunInline, moment: Moment) -> c.Command:
    """What the body raises refuses the transition; where nobody could be told, it becomes an incident."""
    token = moment.snapshot.tokens[question.key]
    if not moment.is_driven_by_engine:
        try:
            return _inline(moment, token)
        except Exception as error:
            mark_step(error, token.step)
            raise
        except BaseException as error:  # the end of the body is not to be the end of the caller's process
            refusal = StepError(f"{token.step!r} raised {type(error).__name__}: {describe(error)}")
            mark_step(refusal, token.step)
            raise refusal from error
    try:
        with transaction.atomic(using=alias()):
            return _inline(moment, token)
    except BaseException as error:  # noqa: BLE001 - user code: its writes are rolled back, the rest stands
        return failure_of(machine_step(moment.definition, token), token, error)


def _inline(moment: Moment, token: Token) -> c.CompleteStep:
    reporter = Reporter()
    done = call_body(moment.row, moment.definition, moment.snapshot, token, reporter)
    succeeded(moment.row, moment.definition, moment.snapshot, token, done)
    return replace(done, reports=reporter.close())


@answer.register
def _resolve_assignment(question: ResolveAssignment, moment: Moment) -> c.Command:
    token = moment.snapshot.tokens[question.key]
    step = moment.definition.step(token.step)
    if not isinstance(step, HumanStep):
        raise TypeError(f"{token.key} is no human step.")
    return resolve(moment.row, step, moment.snapshot, token, moment.events)


@answer.register
def _call_function(question: CallFunction, moment: Moment) -> c.Command:
    """Guards and the like are part of the transition: what they raise becomes an incident."""
    token = moment.snapshot.tokens[question.key]
    context = StepContext(moment.row, moment.snapshot, token)
    try:
        with transaction.atomic(using=alias()):
            value = encode(function_named(question.function)(context))
    except Exception as error:  # noqa: BLE001 - user code: whatever it raises is a matter for a person
        return c.AnswerFunction(
            key=question.key, purpose=question.purpose, error=describe(error), error_type=type(error).__name__
        )
    return c.AnswerFunction(key=question.key, purpose=question.purpose, value=_plain_time(value))


def _plain_time(value: Any) -> Any:
    """A moment as text, which the core reads without knowing the typed form."""
    return value["value"] if isinstance(value, dict) and set(value) == {"$type", "value"} else value


def perform(effect: Effect, row: WorkflowInstance, snapshot: Snapshot) -> None:
    """Do what concerns the world outside of our rows, within the transaction that is open."""
    if isinstance(effect, EnqueueInstance) and snapshot.status == InstanceStatus.RUNNING:
        executor().enqueue(Job(kind="run_instance", instance_id=str(row.pk), attempt=effect.attempt))
    if isinstance(effect, EnqueueStep) and effect.key in snapshot.tokens:
        executor().enqueue(Job(kind="run_step", instance_id=str(row.pk), key=effect.key, attempt=effect.attempt))
