"""Examining every instance: what is stuck, lost, drifted or orphaned, why, and what helps.

It changes nothing by itself. ``Finding.repair`` puts work back through the queue or the engine's own
commands, so that asking twice is harmless; what only a person can judge is explained and left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from django_workflows import registry
from django_workflows.core.codec import content_hash
from django_workflows.core.snapshot import Snapshot, evolve
from django_workflows.exceptions import WorkflowError
from django_workflows.models import (
    HumanTask,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.models.instances import InstanceQuerySet
from django_workflows.states import DefinitionStatus, InstanceStatus, StepStatus, TaskStatus, TimerStatus

from . import clock
from .database import alias
from .loader import definition_for, event_of, snapshot_of
from .locking import locked
from .recovery import interrupt, interrupt_instance, requeue, requeue_after, requeue_instance
from .timers import fire_due
from .watchdog import find_stuck, free

BATCH: Final = 200

#: Seconds that a due timer may stay unfired before somebody should ask why.
LATE: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong. ``kind`` is ``stuck``, ``lost``, ``drifted`` or ``orphaned``; ``place`` is a step
    execution, a timer, or what else it is about; ``mend`` repairs it, where that can be done safely."""

    kind: str
    place: str
    message: str
    advice: str
    instance_id: UUID | None = None
    mend: Callable[[], bool] | None = None

    def repair(self) -> bool:
        """Mend it, if it can be mended; returns whether it was."""
        return self.mend is not None and self.mend()


def examine(*, workflow: str = "", instance_id: Any = None, live_only: bool = False) -> Iterator[Finding]:
    """Everything that is wrong with the instances, by instance; then what is wrong with the definitions."""
    rows = WorkflowInstance.objects.using(alias())
    rows = rows.filter(workflow=workflow) if workflow else rows.all()
    rows = rows.filter(pk=instance_id) if instance_id is not None else rows
    late = clock.present() - requeue_after()
    for batch in _batches(rows.running() if live_only else rows):
        # all of them before the first is handed out: mending one must not change what the others say
        yield from [*_lost(batch, late), *_stuck(batch), *_orphaned(batch), *_drifted(batch)]
    if instance_id is None:
        yield from _drifted_code(workflow)


def _batches(rows: InstanceQuerySet) -> Iterator[list[WorkflowInstance]]:
    last: UUID | None = None
    while True:
        rest = rows if last is None else rows.filter(pk__gt=last)
        batch = list(rest.order_by("pk")[:BATCH])
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        last = batch[-1].pk


# lost


def _lost(batch: list[WorkflowInstance], late: Any) -> Iterator[Finding]:
    live = [row for row in batch if not row.is_ended and row.status != InstanceStatus.PAUSED]
    steps = StepExecution.objects.using(alias()).filter(instance__in=live)
    for found in steps.filter(status=StepStatus.SCHEDULED, scheduled_at__lte=late):
        yield Finding(
            kind="lost",
            instance_id=found.instance_id,
            place=found.key,
            message="It has been scheduled for long, and no worker has taken it up.",
            advice="Is a cluster running? Its message is put into the queue again.",
            mend=_mend(requeue, found),
        )
    for found in steps.filter(status=StepStatus.RUNNING, lease_until__lt=Now()):
        yield Finding(
            kind="lost",
            instance_id=found.instance_id,
            place=found.key,
            message=f"Its worker {found.worker} has not been heard of since its lease ran out.",
            advice="Is a ticker running? The step is taken up again, as its mode promises.",
            mend=_mend(interrupt, found),
        )
    yield from _lost_instances(live, late)
    yield from _late_timers(live)


def _lost_instances(live: list[WorkflowInstance], late: Any) -> Iterator[Finding]:
    keys = [row.pk for row in live if not row.is_durable]
    rows = WorkflowInstance.objects.using(alias()).filter(pk__in=keys)
    for row in rows.filter(lease_until=None, updated_at__lte=late):
        yield Finding(
            kind="lost",
            instance_id=row.pk,
            place="the instance",
            message="No worker has taken it up.",
            advice="Is a cluster running? Its message is put into the queue again.",
            mend=_mend(requeue_instance, row.pk),
        )
    for row in rows.filter(lease_until__lt=Now()):
        yield Finding(
            kind="lost",
            instance_id=row.pk,
            place="the instance",
            message=f"Its worker {row.worker} has not been heard of since its lease ran out.",
            advice="Is a ticker running? The instance starts again from its beginning.",
            mend=_mend(interrupt_instance, row.pk),
        )


def _late_timers(live: list[WorkflowInstance]) -> Iterator[Finding]:
    late = clock.present() - timedelta(seconds=LATE)
    timers = Timer.objects.using(alias()).filter(instance__in=live, status=TimerStatus.OPEN, due_at__lte=late)
    for timer in timers.order_by("due_at"):
        yield Finding(
            kind="lost",
            instance_id=timer.instance_id,
            place=str(timer),
            message=f"It was due at {timer.due_at.isoformat()} and has not fired.",
            advice="Is a ticker running? It is fired now.",
            mend=_mend(_fire, timer.instance_id),
        )


def _fire(instance_id: UUID) -> bool:
    return fire_due(instance_id=instance_id) > 0


def _mend(action: Callable[[Any], bool], about: Any) -> Callable[[], bool]:
    return lambda: action(about)


# stuck


def _stuck(batch: list[WorkflowInstance]) -> Iterator[Finding]:
    for stuck in find_stuck(batch):
        yield Finding(
            kind="stuck",
            instance_id=stuck.instance_id,
            place=stuck.key or "the instance",
            message=f"Nothing will ever move it: {stuck.why}.",
            advice="An incident lets a person retry or skip the step."
            if stuck.key
            else "A job ends the instance, since all its steps are through.",
            mend=_mend(free, stuck),
        )


# orphaned


def _orphaned(batch: list[WorkflowInstance]) -> Iterator[Finding]:
    """Rows that are open although the step they belong to is closed."""
    tokens = {row.pk: set(row.state.get("ids", {}).values()) for row in batch}
    keys = list(tokens)
    rows: Any
    for name, rows in (
        ("task", HumanTask.objects.using(alias()).filter(instance__in=keys).open()),
        ("step execution", StepExecution.objects.using(alias()).filter(instance__in=keys).open()),
        ("timer", Timer.objects.using(alias()).filter(instance__in=keys, status=TimerStatus.OPEN)),
    ):
        for row in rows:
            owner = getattr(row, "execution_id", row.pk)
            if not _is_owned(row, owner, tokens, batch):
                yield _orphan(name, row)
    waiting = TaskCandidate.objects.using(alias()).filter(task__instance__in=keys, is_open=True)
    for candidate in waiting.exclude(task__status__in=OPEN_TASKS).select_related("task").order_by("task"):
        yield _orphan("candidate", candidate.task)


OPEN_TASKS: Final = (TaskStatus.OPEN, TaskStatus.CLAIMED, TaskStatus.DELEGATED)


def _is_owned(row: Any, owner: UUID | None, tokens: dict[UUID, set[str]], batch: list[WorkflowInstance]) -> bool:
    if owner is not None:
        return str(owner) in tokens[row.instance_id]
    found = next(one for one in batch if one.pk == row.instance_id)
    return row.name in found.state.get("timers", ())


def _orphan(name: str, row: Any) -> Finding:
    return Finding(
        kind="orphaned",
        instance_id=row.instance_id,
        place=f"{name} of {row}" if name == "candidate" else f"{name} {row}",
        message="It is open, but the step it belongs to is closed.",
        advice="It is closed, as the history says. Find out who changed the rows.",
        mend=lambda: _close_orphan(name, row),
    )


def _close_orphan(name: str, row: Any) -> bool:
    """Close the row as the history closed its step; nothing else of the instance is touched."""
    with transaction.atomic(using=alias()):
        owner = locked().filter(pk=row.instance_id).first()
        if owner is None:
            return False
        now = clock.of(owner)
        if name == "timer":
            rows = Timer.objects.using(alias()).filter(pk=row.pk, status=TimerStatus.OPEN)
            return bool(rows.update(status=TimerStatus.CANCELED, closed_at=now))
        if name == "step execution":
            steps = StepExecution.objects.using(alias()).filter(pk=row.pk).open()
            return bool(steps.update(status=StepStatus.CANCELED, completed_at=now, lease_until=None))
        changed = 0
        if name == "task":
            tasks = HumanTask.objects.using(alias()).filter(pk=row.pk).open()
            changed = tasks.update(status=TaskStatus.CANCELED, completed_at=now, completed_by_name="system")
        candidates = TaskCandidate.objects.using(alias()).filter(task=row.pk, is_open=True)
        return bool(changed + candidates.update(is_open=False))


# drifted


def _drifted(batch: list[WorkflowInstance]) -> Iterator[Finding]:
    """The history, folded, must give what is stored, and its numbers must have no gap."""
    lines = WorkflowEvent.objects.using(alias()).filter(instance__in=[row.pk for row in batch])
    ordered = lines.order_by("instance_id", "sequence").iterator(chunk_size=2000)
    histories = {key: list(found) for key, found in groupby(ordered, key=lambda line: line.instance_id)}
    for row in batch:
        current = WorkflowInstance.objects.using(alias()).filter(pk=row.pk)
        for message in _drift(row, histories.get(row.pk, [])):
            if current.filter(sequence=row.sequence).exists():  # else it has moved while we looked
                yield Finding(
                    kind="drifted",
                    instance_id=row.pk,
                    place="the history",
                    message=message,
                    advice="Somebody changed rows by hand. The history is the proof: compare it, then set right "
                    "what was changed, or fail the instance.",
                )


def _drift(row: WorkflowInstance, lines: list[WorkflowEvent]) -> Iterator[str]:
    numbers = [line.sequence for line in lines]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
        yield f"Lines are missing from its history: {', '.join(map(str, missing[:10]))}."
        return
    if not lines:
        yield "It has no history."
        return
    try:
        folded = Snapshot()
        for line in lines:
            folded = evolve(folded, event_of(line))
        stored = snapshot_of(row)
    except (WorkflowError, TypeError, ValueError, LookupError, AttributeError) as error:
        yield f"Its history or its state cannot be read: {type(error).__name__}: {error}"
        return
    other = [name for name in Snapshot.__slots__ if getattr(folded, name) != getattr(stored, name)]
    if other:
        yield f"What is stored is not what its history gives: {', '.join(other)}."


def _drifted_code(workflow: str) -> Iterator[Finding]:
    """Published definitions that the code of this process does not know, or knows otherwise."""
    rows = WorkflowDefinition.objects.using(alias()).exclude(status=DefinitionStatus.DRAFT)
    for row in rows.filter(name=workflow) if workflow else rows:
        for message in _code_drift(row):
            yield Finding(
                kind="drifted",
                place=f"definition {row.name} {row.version}",
                message=message,
                advice="Deploy the code that this version was published from, or publish the change as a new version.",
            )


def _code_drift(row: WorkflowDefinition) -> Iterator[str]:
    try:
        definition = definition_for(row.pk)
    except WorkflowError as error:
        yield f"It cannot be read any more: {error.message}"
        return
    lives = WorkflowInstance.objects.using(alias()).filter(definition=row).running().exists()
    if row.status == DefinitionStatus.PUBLISHED or lives:
        for place, name in registry.function_references(definition):
            if not registry.has_function(name):
                yield f"{place} calls {name!r}, which no code has registered."
    has_code = row.is_code and not row.tenant and registry.has(row.name, row.version)
    if has_code and content_hash(registry.definition_of(registry.get(row.name, row.version))) != row.content_hash:
        yield "Its code has changed without a new version."
