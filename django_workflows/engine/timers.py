"""Firing what is due. Any number of processes may do it at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from django_workflows.core.commands import FireTimer
from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.models import HumanTask, TaskCandidate, Timer, WorkflowInstance
from django_workflows.states import TimerStatus

from . import clock
from .database import alias
from .incidents import report_broken
from .locking import locked
from .runner import advance

logger = logging.getLogger("django_workflows.timers")

BATCH = 100


def fire_due(*, instance_id: Any = None) -> int:
    """Fire every timer that is due now (of one instance, if it is given); returns how many fired.

    An instance that somebody else holds is passed over; its timers are found the next time.
    """
    return sum(_fire(timer) for timer in _due(clock.present(), instance_id))


def _due(now: datetime | clock.DatabaseClock, instance_id: Any) -> Iterator[Timer]:
    """The due timers in order, read in batches by key, so that one that cannot fire holds up none."""
    found = Timer.objects.using(alias()).due(now=now)
    if instance_id is not None:
        found = found.filter(instance=instance_id)
    last: Timer | None = None
    while True:
        rest = (
            found if last is None else found.filter(Q(due_at__gt=last.due_at) | Q(due_at=last.due_at, id__gt=last.id))
        )
        batch = list(rest[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        last = batch[-1]


def _fire(timer: Timer) -> bool:
    try:
        with transaction.atomic(using=alias()):
            row = locked(skip=True).filter(pk=timer.instance_id).first()
            if row is None:
                return False
            advance(row, FireTimer(key=timer.key, timer=timer.name, due_at=timer.due_at))
    except TransitionNotAllowed:
        return False  # somebody else fired or canceled it in the meantime
    except Exception as error:  # the edge of a sweep: one broken instance must not hold up the others
        logger.exception("Timer %s of instance %s could not be fired.", timer, timer.instance_id)
        report_broken(timer.instance_id, timer.key, error)
        return False
    return True


def postpone(row: WorkflowInstance, by: timedelta) -> int:
    """Put off every running timer of an instance, and the due dates that people see; returns how many timers."""
    shifted = Timer.objects.using(alias()).filter(instance=row, status=TimerStatus.OPEN)
    later = F("due_at") + by
    due = {"due_at": later}
    HumanTask.objects.using(alias()).filter(instance=row, due_at__isnull=False).open().update(**due)
    TaskCandidate.objects.using(alias()).filter(task__instance=row, due_at__isnull=False, is_open=True).update(**due)
    return shifted.update(**due)
