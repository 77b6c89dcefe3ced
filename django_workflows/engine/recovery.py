"""Finding what got lost: messages that never came, workers that never came back.

Recovery never runs the work itself. It puts it back through the same queue, so that asking twice
is harmless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from django_workflows.conf import settings
from django_workflows.core.commands import InterruptInstance, InterruptStep
from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.models import StepExecution, WorkflowInstance
from django_workflows.models.instances import InstanceQuerySet
from django_workflows.states import INSTANCE_ENDED, InstanceStatus, StepStatus

from . import clock
from .database import alias
from .executors import Job, executor
from .incidents import report_broken
from .loader import definition_for, snapshot_of
from .locking import locked
from .runner import advance
from .watchdog import watch

logger = logging.getLogger("django_workflows.recovery")

BATCH = 500

#: A transaction that is being committed may hold a step and its message that we see one after the other.
SURELY_LOST = timedelta(seconds=2)


def sweep() -> dict[str, int]:
    """Queue again what waits for a lost message, take up what a lost worker held, report what is stuck.

    Returns how many of each: ``{"requeued": n, "interrupted": n, "stuck": n}``.
    """
    late = clock.present() - requeue_after()
    return {
        "requeued": requeue_lost(late) + requeue_lost_instances(late),
        "interrupted": interrupt_lost() + interrupt_lost_instances(),
        "stuck": watch.look(),
    }


def _each(rows: Iterable[StepExecution], mend: Callable[[StepExecution], bool]) -> int:
    """Mend one after the other; one that is broken becomes an incident and holds up none behind it."""
    done = 0
    for row in rows:
        try:
            done += mend(row)
        except DatabaseError:
            raise  # the next sweep comes when the database is back
        except Exception as error:  # the edge of a sweep
            logger.exception("%s of instance %s could not be recovered.", row.key, row.instance_id)
            report_broken(row.instance_id, row.key, error)
    return done


def requeue_lost(late: Any) -> int:
    """Steps that were scheduled before ``late`` (a time, or an expression for the database's)."""
    rows = (
        StepExecution.objects.using(alias())
        .filter(status=StepStatus.SCHEDULED, scheduled_at__lte=late)
        .exclude(instance__status__in=(InstanceStatus.PAUSED, *INSTANCE_ENDED))
        .order_by("scheduled_at")
    )
    return _each(rows[:BATCH], requeue)


def requeue_after() -> timedelta:
    """How long something may be scheduled before its message counts as lost.

    Two seconds if the queue is empty. Ten times ``WORKFLOWS_REQUEUE_SECONDS`` while it is behind:
    messages for what waits only because there is much to do would make it still more.
    """
    try:
        if executor().is_empty():
            return SURELY_LOST
        factor = 10 if executor().is_behind() else 1
    except Exception:  # the queue's own: recovery is there for when it does not work
        logger.warning("The queue does not say what it holds.", exc_info=True)
        factor = 1
    return timedelta(seconds=settings.REQUEUE_SECONDS * factor)


def requeue(execution: StepExecution) -> bool:
    """Send the message of a scheduled step again; false if it has moved meanwhile."""
    with transaction.atomic(using=alias()):
        row = locked(skip=True).filter(pk=execution.instance_id).first()
        token = snapshot_of(row).tokens.get(execution.key) if row is not None else None
        if row is None or token is None or token.status != StepStatus.SCHEDULED:
            return False
        StepExecution.objects.using(alias()).filter(pk=execution.pk).update(scheduled_at=clock.of(row))
        executor().enqueue(Job(kind="repeat_step", instance_id=str(row.pk), key=token.key, attempt=token.attempt))
    logger.warning("The message for %s of instance %s was lost; it is queued again.", execution.key, row.pk)
    return True


def interrupt_lost() -> int:
    """Steps whose lease has run out by the database's clock."""
    rows = StepExecution.objects.using(alias()).filter(status=StepStatus.RUNNING, lease_until__lt=Now())
    return _each(rows.order_by("lease_until")[:BATCH], interrupt)


def interrupt(execution: StepExecution) -> bool:
    """Take a step from a worker whose lease is over; false if it has reported meanwhile."""
    try:
        with transaction.atomic(using=alias()):
            row = locked(skip=True).filter(pk=execution.instance_id).first()
            token = snapshot_of(row).tokens.get(execution.key) if row is not None else None
            if row is None or token is None or not _lease_is_over(execution):
                return False
            give_up = _is_enough(row, token.interruptions)
            advance(row, InterruptStep(key=token.key, attempt=token.attempt, worker=execution.worker, give_up=give_up))
    except TransitionNotAllowed:
        return False  # it has reported in the meantime
    logger.warning("The worker of %s of instance %s was lost.", execution.key, execution.instance_id)
    return True


def _is_enough(row: WorkflowInstance, interruptions: int) -> bool:
    """Whether no further worker is to be risked, for this step or for its instance."""
    own = definition_for(row.definition_id).max_recoveries
    allowed = settings.MAX_RECOVERY_ATTEMPTS if own is None else own
    return interruptions >= allowed or row.state.get("interruptions", 0) >= settings.MAX_INSTANCE_RECOVERIES


def requeue_lost_instances(late: Any) -> int:
    """Transient instances that no worker has taken up since before ``late``."""
    rows = _transient().filter(lease_until=None, updated_at__lte=late)
    return sum(requeue_instance(row.pk) for row in rows[:BATCH])


def interrupt_lost_instances() -> int:
    """Transient instances whose worker has not been heard of any more."""
    return sum(interrupt_instance(row.pk) for row in _transient().filter(lease_until__lt=Now())[:BATCH])


def _transient() -> InstanceQuerySet:
    rows = WorkflowInstance.objects.using(alias()).running().filter(is_durable=False)
    return rows.filter(status=InstanceStatus.RUNNING).order_by("updated_at")


def requeue_instance(key: UUID) -> bool:
    with transaction.atomic(using=alias()):
        row = locked(skip=True).filter(pk=key, status=InstanceStatus.RUNNING, lease_until=None).first()
        if row is None:
            return False
        WorkflowInstance.objects.using(alias()).filter(pk=key).update(updated_at=clock.of(row))
        attempt = row.state.get("interruptions", 0) + 1
        executor().enqueue(Job(kind="run_instance", instance_id=str(key), attempt=attempt))
    return True


def interrupt_instance(key: UUID) -> bool:
    with transaction.atomic(using=alias()):
        found = locked(skip=True).filter(pk=key, status=InstanceStatus.RUNNING, lease_until__lt=Now())
        row = found.first()
        if row is None:
            return False
        count = row.state.get("interruptions", 0)
        advance(row, InterruptInstance(attempt=count + 1, worker=row.worker, give_up=_is_enough(row, count)))
    logger.warning("The worker of instance %s was lost.", key)
    return True


def _lease_is_over(execution: StepExecution) -> bool:
    """Asked again under the lock: a heartbeat may have come."""
    rows = StepExecution.objects.using(alias()).filter(pk=execution.pk, status=StepStatus.RUNNING)
    return rows.filter(lease_until__lt=Now()).exists()
