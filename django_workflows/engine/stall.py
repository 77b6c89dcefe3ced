"""Telling a cluster that is dead although it looks alive.

A django-q2 cluster whose idle worker was killed while it held the queue's lock takes nothing any more,
answers every look at its processes, and does not end by SIGTERM. The queue tells: messages wait, none
was taken for long, and no worker is busy.
"""

from __future__ import annotations

import time

from django.db.models.functions import Now

from django_workflows.models import StepExecution
from django_workflows.states import StepStatus

from .database import alias
from .executors import executor


class StallGuard:
    """``patience`` is for how many seconds messages may wait untouched while no step is running."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.forget()

    def forget(self) -> None:
        """A new cluster has all its time before it."""
        self._since = time.monotonic()

    def is_stalled(self) -> bool:
        if time.monotonic() - self._since <= self.patience:
            return False
        return executor().is_stalled(self.patience) and not _somebody_works()


def _somebody_works() -> bool:
    running = StepExecution.objects.using(alias()).filter(status=StepStatus.RUNNING)
    return running.filter(lease_until__gt=Now()).exists()
