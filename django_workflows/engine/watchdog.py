"""Nothing is ever stuck unseen: every instance that lives waits for something that exists.

For a person (an open task), a moment (an open timer), a worker (a job or a lease), other branches
(at a join), or for somebody to see to an incident. What waits for nothing gets an incident.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from django_workflows.core.commands import RaiseIncident, Settle
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.exceptions import DefinitionError, TransitionNotAllowed, WorkflowError
from django_workflows.models import HumanTask, Incident, StepExecution, Timer, WorkflowInstance
from django_workflows.states import IncidentStatus, InstanceStatus, StepStatus, TimerStatus

from . import clock
from .database import alias
from .executors import Job, executor
from .loader import definition_for, snapshot_of
from .locking import locked
from .runner import advance, handle

logger = logging.getLogger("django_workflows.watchdog")

#: Instances looked at per round, and the seconds that one must have rested before it is looked at.
BATCH: Final = 500
REST: Final = 60

LIVE: Final = (InstanceStatus.RUNNING, InstanceStatus.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Something that waits for nothing; ``key`` is empty for an instance without open steps."""

    instance_id: UUID
    key: str
    why: str


@dataclass(slots=True)
class _Found:
    """What exists for the instances of one round to wait for, by step execution."""

    tasks: set[UUID] = field(default_factory=set)
    timers: set[UUID] = field(default_factory=set)
    incidents: set[UUID] = field(default_factory=set)
    leased: set[UUID] = field(default_factory=set)
    scheduled: set[UUID] = field(default_factory=set)


def find_stuck(rows: Sequence[WorkflowInstance]) -> list[Stuck]:
    """Those of the instances, and of their open steps, that nothing will ever move (five queries)."""
    live = [(row, _snapshot(row)) for row in rows if row.status in LIVE and row.is_durable]
    found = _look([row.pk for row, _ in live])
    return [stuck for row, snapshot in live if snapshot is not None for stuck in _stuck_parts(row, snapshot, found)]


def _snapshot(row: WorkflowInstance) -> Snapshot | None:
    """``None`` for a state that cannot be read: no incident can be raised in it, only the doctor tells."""
    try:
        return snapshot_of(row)
    except (WorkflowError, TypeError, ValueError, LookupError, AttributeError):
        logger.exception("The state of instance %s cannot be read; see `workflows doctor`.", row.pk)
        return None


def _look(keys: list[UUID]) -> _Found:
    def ids(model: Any, name: str, **where: Any) -> set[UUID]:
        rows = model.objects.using(alias()).filter(instance__in=keys, **where).order_by()
        return set(rows.values_list(name, flat=True))

    running = {"status": StepStatus.RUNNING, "lease_until__isnull": False}
    tasks = HumanTask.objects.using(alias()).filter(instance__in=keys).open().order_by()
    return _Found(
        tasks=set(tasks.values_list("pk", flat=True)),
        timers=ids(Timer, "execution_id", status=TimerStatus.OPEN),
        incidents=ids(Incident, "execution_id", status=IncidentStatus.OPEN),
        leased=ids(StepExecution, "pk", **running),
        scheduled=ids(StepExecution, "pk", status=StepStatus.SCHEDULED),
    )


def _stuck_parts(row: WorkflowInstance, snapshot: Snapshot, found: _Found) -> Iterable[Stuck]:
    if not snapshot.tokens:
        yield Stuck(instance_id=row.pk, key="", why="none of its steps is open, and yet it has not ended")
    joins = {key for key, token in snapshot.tokens.items() if token.arrived}
    for key, token in snapshot.tokens.items():
        known = row.state["ids"].get(key)
        why = "its step execution has no row" if known is None else _why(token, UUID(known), found)
        if key in joins and len(joins) < len(snapshot.tokens) and not token.incidents:
            continue  # other branches are on their way
        if why and not _waits_outside(row, token):
            yield Stuck(instance_id=row.pk, key=key, why=why)


def _waits_outside(row: WorkflowInstance, token: Token) -> bool:
    """A step type of the project's own may wait for what only the project knows."""
    if token.status != StepStatus.WAITING:
        return False
    try:
        step = definition_for(row.definition_id).by_name.get(token.step)
    except DefinitionError:
        return False
    return step is not None and step.waits_outside


def _why(token: Token, key: UUID, found: _Found) -> str:
    """Why nothing will move this step execution; empty if something will."""
    if token.status == StepStatus.RUNNING:
        return "" if key in found.leased else "it is running, but no worker holds a lease"
    if token.status == StepStatus.SCHEDULED:
        return "" if key in found.scheduled else "it is scheduled, but its row is not"
    if token.status == StepStatus.FAILED:
        return "" if key in found.incidents else "it has failed, but there is no incident"
    if token.status == StepStatus.WAITING and key in found.tasks | found.timers:
        return ""
    return f"it is {token.status}, but there is neither a task nor a timer that would move it"


class Watch:
    """Goes through all instances that live, some at a time, and begins again at the end."""

    def __init__(self) -> None:
        self._after: UUID | None = None

    def look(self) -> int:
        """Look at the next ``BATCH`` instances; returns how many stuck places were found and seen to."""
        rows = WorkflowInstance.objects.using(alias()).filter(status__in=LIVE).order_by("pk")
        rows = rows.filter(updated_at__lte=clock.present() - timedelta(seconds=REST))
        batch = list((rows.filter(pk__gt=self._after) if self._after else rows)[:BATCH])
        self._after = batch[-1].pk if len(batch) == BATCH else None
        return sum(free(stuck) for stuck in find_stuck(batch))


def free(stuck: Stuck) -> bool:
    """Let a person see to it, by an incident; or end an instance that is through, by a job.

    Looked at once more under the lock, for it may have moved in the meantime.
    """
    try:
        with transaction.atomic(using=alias()):
            row = locked(skip=True).filter(pk=stuck.instance_id).first()
            if row is None or stuck not in find_stuck([row]):
                return False
            if not stuck.key:
                executor().enqueue(Job(kind="settle", instance_id=str(row.pk)))
            else:
                advance(row, _incident(stuck))
    except TransitionNotAllowed:
        return False  # the incident is there already
    logger.error("%s of instance %s is stuck: %s.", stuck.key or "The whole", stuck.instance_id, stuck.why)
    return True


def _incident(stuck: Stuck) -> RaiseIncident:
    return RaiseIncident(
        key=stuck.key,
        kind="stuck",
        message=f"{stuck.key} waits for nothing: {stuck.why}.",
        suggested_action="Retry the step, or skip it with a declared output. Find out who changed the rows.",
    )


def settle(instance_id: str, key: str, attempt: int) -> None:
    """The job for an instance that none of its steps holds open any more."""
    handle(instance_id, Settle())


watch = Watch()
