"""The corridor that everything walks: lock, load, decide, record, commit, announce."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import Any

from django.db import transaction

from django_workflows.conf import settings
from django_workflows.core import commands as c
from django_workflows.core.commands import Command
from django_workflows.core.definition import Definition
from django_workflows.core.effects import Effect, Question
from django_workflows.core.events import Event
from django_workflows.core.machine import decide
from django_workflows.core.snapshot import Snapshot
from django_workflows.exceptions import InvalidDefinition
from django_workflows.listeners import announce, is_heard
from django_workflows.models import WorkflowEvent, WorkflowInstance
from django_workflows.states import INSTANCE_ENDED

from . import clock
from .database import alias
from .effects import Moment, answer, perform
from .failpoints import ARMED, reach
from .loader import definition_for, snapshot_of
from .locking import lock
from .recorder import record
from .rows import columns_of

logger = logging.getLogger("django_workflows.runner")


def handle(instance_id: Any, command: Command) -> WorkflowInstance:
    """Apply one command to one instance, in one transaction. Returns the row as it is afterwards.

    Raises a ``WorkflowError`` if the command is refused; then nothing has changed.
    """
    with transaction.atomic(using=alias()):
        return advance(lock(instance_id), command)


def advance(row: WorkflowInstance, command: Command, *, is_new: bool = False) -> WorkflowInstance:
    """The same for a row that the caller has locked, or made, in the transaction that is open."""
    definition = _definition_for(row, command)
    snapshot = Snapshot() if is_new else snapshot_of(row)
    before = snapshot.sequence
    snapshot, events, effects = settle(row, definition, snapshot, command)
    if snapshot.sequence > settings.EVENT_SOFT_LIMIT:
        snapshot, events = _limited(row, definition, snapshot, events, before)
    lines = record(row, snapshot, events, is_new=is_new)
    if ARMED:
        _reach_failpoints(definition, events, command)
    for number, effect in enumerate(effects):
        if number:
            reach("F7", effect.key)
        perform(effect, row, snapshot)
    if is_heard(event.name for event in events):
        heard = [WorkflowEvent.from_db(alias(), columns_of(WorkflowEvent), line) for line in lines]
        announce(heard, sensitive=definition.sensitive, using=alias())
    return row


def settle(
    row: WorkflowInstance, definition: Definition, snapshot: Snapshot, command: Command
) -> tuple[Snapshot, list[Event], list[Effect]]:
    """Decide, answer what the core asks, decide again, until it asks nothing more."""
    now, first = clock.of(row), command
    events: list[Event] = []
    effects: list[Effect] = []
    questions: deque[Question] = deque()
    while True:
        transition = decide(definition, snapshot, command, now=now)
        snapshot = transition.snapshot
        events += transition.events
        effects += transition.effects
        questions.extend(transition.questions)
        # what another way has closed in the meantime needs no answer any more
        questions = deque(question for question in questions if question.key in snapshot.tokens)
        if not questions:
            return snapshot, events, effects
        moment = Moment(row=row, definition=definition, snapshot=snapshot, events=events, command=first)
        command = answer(questions.popleft(), moment)


_NEED_NO_DEFINITION = (c.RaiseIncident, c.Cancel, c.FailInstance, c.SetHold, c.LiftHold, c.Comment)


def _definition_for(row: WorkflowInstance, command: c.Command) -> Definition:
    """The drawing; an empty one for what can be done to an instance whose drawing cannot be read any more."""
    try:
        return definition_for(row.definition_id)
    except InvalidDefinition:
        if isinstance(command, _NEED_NO_DEFINITION):
            return Definition(name=row.workflow)
        raise


def _limited(
    row: WorkflowInstance, definition: Definition, snapshot: Snapshot, events: list[Event], before: int
) -> tuple[Snapshot, list[Event]]:
    """Warn of a history that grows and grows, and end the instance where it has grown too long."""
    count, every = snapshot.sequence, max(1, settings.EVENT_WARN_EVERY)
    if count >= settings.EVENT_HARD_LIMIT and snapshot.status not in INSTANCE_ENDED:
        error = f"Its history has {count:,} events; allowed are {settings.EVENT_HARD_LIMIT:,}."
        command = c.FailInstance(error=error, error_type="EventLimitExceeded")
        snapshot, more, _ = settle(row, definition, snapshot, command)
        return snapshot, [*events, *more]
    over = [number - settings.EVENT_SOFT_LIMIT for number in (before, count)]
    if over[0] <= 0 or over[0] // every != over[1] // every:
        logger.warning("Instance %s has %s events; at %s it fails.", row.pk, count, settings.EVENT_HARD_LIMIT)
    return snapshot, events


def _reach_failpoints(definition: Definition, events: list[Event], command: c.Command) -> None:
    """The places of a transition where a test may let this process die."""
    what = getattr(command, "key", "")
    joins = {step.name for step in definition.steps if step.type == "join"}
    if any(event.step in joins for event in events):
        reach("F8", what)
    if isinstance(command, (c.RetryStep, c.SkipStep, c.Resume)):
        reach("F9", what)
    if isinstance(command, c.FireTimer):
        reach("F11", what)
    if isinstance(command, c.Decide):
        reach("F12", what)
    transaction.on_commit(partial(reach, "F4", what), using=alias())
