"""Runs every job in this process, as soon as the transaction that asked for it is committed."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial

from django.db import transaction

from django_workflows.engine.database import alias

from .base import Executor, Job


class ImmediateExecutor(Executor):
    """For development, tests and small projects: no cluster, and the caller waits for the work."""

    def __init__(self) -> None:
        self._local = threading.local()

    def enqueue(self, job: Job) -> None:
        transaction.on_commit(partial(self._run, job), using=alias())

    def _run(self, job: Job) -> None:
        """One after the other: a job that leads to another does not nest it."""
        waiting: deque[Job] | None = getattr(self._local, "waiting", None)
        if waiting is not None:
            waiting.append(job)
            return
        self._local.waiting = waiting = deque([job])
        try:
            while waiting:
                waiting.popleft().run()
        finally:
            self._local.waiting = None
