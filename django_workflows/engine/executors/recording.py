"""Keeps the jobs of committed transactions until a test runs them."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from django_workflows.engine.database import alias

from .base import Executor, Job


class RecordingExecutor(Executor):
    """``jobs`` are those not yet run, in the order of their transactions."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def enqueue(self, job: Job) -> None:
        transaction.on_commit(partial(self.jobs.append, job), using=alias())

    def run_all(self, limit: int = 1000) -> int:
        """Run what is there, and what comes of it, up to ``limit`` jobs; returns how many ran."""
        count = 0
        while self.jobs and count < limit:
            self.jobs.pop(0).run()
            count += 1
        return count
