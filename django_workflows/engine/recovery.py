"""Finding what got lost: messages that never came, workers that never came back.

Recovery never runs the work itself. It puts it back through the same queue, so that asking twice
is harmless.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from django_workflows.conf import settings
from django_workflows.core.commands import InterruptStep
from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.models import StepExecution
from django_workflows.states import INSTANCE_ENDED, InstanceStatus, StepStatus

from . import clock
from .database import alias
from .executors import Job, executor
from .loader import snapshot_of
from .locking import locked
from .runner import advance

logger = logging.getLogger("django_workflows.recovery")

BATCH = 500


def sweep() -> dict[str, int]:
    """Queue again what waits for a lost message, and take up what a lost worker held.

    Returns how many of each: ``{"requeued": n, "interrupted": n}``.
    """
    return {"requeued": requeue_lost(), "interrupted": interrupt_lost()}


def requeue_lost() -> int:
    """Steps that have been scheduled for longer than ``WORKFLOWS_REQUEUE_SECONDS``."""
    late = clock.now() - timedelta(seconds=settings.REQUEUE_SECONDS)
    rows = (
        StepExecution.objects.using(alias())
        .filter(status=StepStatus.SCHEDULED, scheduled_at__lte=late)
        .exclude(instance__status__in=(InstanceStatus.PAUSED, *INSTANCE_ENDED))
        .order_by("scheduled_at")
    )
    return sum(_requeue(row) for row in rows[:BATCH])


def _requeue(execution: StepExecution) -> bool:
    with transaction.atomic(using=alias()):
        row = locked(skip=True).filter(pk=execution.instance_id).first()
        token = snapshot_of(row).tokens.get(execution.key) if row is not None else None
        if row is None or token is None or token.status != StepStatus.SCHEDULED:
            return False
        StepExecution.objects.using(alias()).filter(pk=execution.pk).update(scheduled_at=clock.now())
        executor().enqueue(Job(kind="run_step", instance_id=str(row.pk), key=token.key, attempt=token.attempt))
    logger.warning("The message for %s of instance %s was lost; it is queued again.", execution.key, row.pk)
    return True


def interrupt_lost() -> int:
    """Steps whose lease has run out by the database's clock."""
    rows = StepExecution.objects.using(alias()).filter(status=StepStatus.RUNNING, lease_until__lt=Now())
    return sum(_interrupt(row) for row in rows.order_by("lease_until")[:BATCH])


def _interrupt(execution: StepExecution) -> bool:
    try:
        with transaction.atomic(using=alias()):
            row = locked(skip=True).filter(pk=execution.instance_id).first()
            token = snapshot_of(row).tokens.get(execution.key) if row is not None else None
            if row is None or token is None or not _lease_is_over(execution):
                return False
            give_up = token.interruptions >= settings.MAX_RECOVERY_ATTEMPTS
            advance(
                row,
                InterruptStep(key=execution.key, attempt=execution.attempt, worker=execution.worker, give_up=give_up),
            )
    except TransitionNotAllowed:
        return False  # it has reported in the meantime
    logger.warning("The worker of %s of instance %s was lost.", execution.key, execution.instance_id)
    return True


def _lease_is_over(execution: StepExecution) -> bool:
    """Asked again under the lock: a heartbeat may have come."""
    rows = StepExecution.objects.using(alias()).filter(pk=execution.pk, status=StepStatus.RUNNING)
    return rows.filter(lease_until__lt=Now()).exists()
