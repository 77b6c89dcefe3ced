"""The corridor that everything walks: lock, load, decide, record, commit, announce."""

from __future__ import annotations

from collections import deque
from typing import Any

from django.db import transaction

from django_workflows.core.commands import Command
from django_workflows.core.definition import Definition
from django_workflows.core.effects import Effect, Question
from django_workflows.core.events import Event
from django_workflows.core.machine import decide
from django_workflows.core.snapshot import Snapshot
from django_workflows.listeners import announce, is_heard
from django_workflows.models import WorkflowEvent, WorkflowInstance

from . import clock
from .database import alias
from .effects import Moment, answer, perform
from .loader import definition_for, snapshot_of
from .locking import lock
from .recorder import record
from .rows import columns_of


def handle(instance_id: Any, command: Command) -> WorkflowInstance:
    """Apply one command to one instance, in one transaction. Returns the row as it is afterwards.

    Raises a ``WorkflowError`` if the command is refused; then nothing has changed.
    """
    with transaction.atomic(using=alias()):
        return advance(lock(instance_id), command)


def advance(row: WorkflowInstance, command: Command, *, is_new: bool = False) -> WorkflowInstance:
    """The same for a row that the caller has locked, or made, in the transaction that is open."""
    definition = definition_for(row.definition_id)
    snapshot = Snapshot() if is_new else snapshot_of(row)
    snapshot, events, effects = _settle(row, definition, snapshot, command)
    lines = record(row, snapshot, events, is_new=is_new)
    for effect in effects:
        perform(effect, row, snapshot)
    if is_heard(event.name for event in events):
        heard = [WorkflowEvent.from_db(alias(), columns_of(WorkflowEvent), line) for line in lines]
        announce(heard, sensitive=definition.sensitive, using=alias())
    return row


def _settle(
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
