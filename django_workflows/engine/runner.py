"""The corridor that everything walks: lock, load, decide, record, commit, announce."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import transaction

from django_workflows.core.commands import Command
from django_workflows.core.definition import Definition
from django_workflows.core.effects import Effect
from django_workflows.core.events import Event
from django_workflows.core.machine import decide
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.listeners import announce
from django_workflows.models import WorkflowInstance

from . import clock
from .effects import answer, perform
from .loader import definition_for, snapshot_of
from .locking import alias, lock
from .recorder import record

#: Given the locked row, its definition, its present and the token: the command that follows.
Body = Callable[[WorkflowInstance, Definition, Snapshot, Token], Command]


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
    announce(lines, sensitive=definition.sensitive, using=alias())
    return row


def _settle(
    row: WorkflowInstance, definition: Definition, snapshot: Snapshot, command: Command
) -> tuple[Snapshot, list[Event], list[Effect]]:
    """Decide, answer what the core asks, decide again, until it asks nothing more."""
    now = clock.now()
    events: list[Event] = []
    effects: list[Effect] = []
    waiting: deque[Callable[[Snapshot], Command]] = deque([lambda _snapshot: command])
    while waiting:
        transition = decide(definition, snapshot, waiting.popleft()(snapshot), now=now)
        snapshot = transition.snapshot
        events += transition.events
        effects += transition.effects
        waiting.extend(partial(answer, question, row, definition) for question in transition.questions)
    return snapshot, events, effects
