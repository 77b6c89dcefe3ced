"""For the tests of projects: run the jobs, move the clock, decide as somebody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django_workflows import services
from django_workflows.core.snapshot import Snapshot, evolve
from django_workflows.engine.clock import clock, now
from django_workflows.engine.executors import executor
from django_workflows.engine.executors.recording import RecordingExecutor
from django_workflows.engine.loader import event_of as as_event
from django_workflows.engine.loader import snapshot_of
from django_workflows.engine.timers import fire_due
from django_workflows.models import HumanTask, WorkflowEvent, WorkflowInstance


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def move(self, by: timedelta) -> int:
        """Move on, and fire what has become due; returns how many timers fired."""
        self.at += by
        return fire_due()

    def __call__(self) -> datetime:
        return self.at


@contextmanager
def frozen_clock(at: datetime | None = None) -> Iterator[Clock]:
    """Let the engine's time stand still at ``at`` (default: now)."""
    standing = Clock(at or now())
    with clock(standing):
        yield standing


def run_jobs() -> int:
    """Run every job that waits (``WORKFLOWS_EXECUTOR = "recording"``); returns how many ran."""
    current = executor()
    if not isinstance(current, RecordingExecutor):
        raise TypeError('run_jobs() needs WORKFLOWS_EXECUTOR = "recording".')
    return current.run_all()


def decide_as(user: Any, instance: WorkflowInstance, outcome: str, **options: Any) -> WorkflowInstance:
    """Answer the one open task of an instance (or that of the step named by ``step=``) as a user."""
    tasks = HumanTask.objects.filter(instance=instance).open()
    if step := options.pop("step", ""):
        tasks = tasks.filter(step=step)
    return services.decide(tasks.get(), outcome, by=user, **options)


def replayed(instance: WorkflowInstance) -> Snapshot:
    """What folding the history of an instance gives, from nothing."""
    snapshot = Snapshot()
    for line in WorkflowEvent.objects.of(instance):
        snapshot = evolve(snapshot, as_event(line))
    return snapshot


def assert_log_gives_state(instance: WorkflowInstance) -> None:
    """The history, folded, gives exactly what is stored; its numbers run from 1 without gaps."""
    instance.refresh_from_db()
    numbers = list(WorkflowEvent.objects.of(instance).values_list("sequence", flat=True))
    if numbers != list(range(1, len(numbers) + 1)):
        raise AssertionError(f"The numbers of the history have gaps: {numbers}")
    folded, stored = replayed(instance), snapshot_of(instance)
    for name in Snapshot.__slots__:
        if getattr(folded, name) != getattr(stored, name):
            raise AssertionError(
                f"{name}: the log gives {getattr(folded, name)!r}, stored is {getattr(stored, name)!r}"
            )


__all__ = [
    "Clock",
    "as_event",
    "assert_log_gives_state",
    "decide_as",
    "frozen_clock",
    "replayed",
    "run_jobs",
]
