from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ

from django_workflows import machine
from django_workflows.engine import machine_steps, stall
from django_workflows.engine.executors import Job, executor
from django_workflows.engine.stall import StallGuard

pytestmark = pytest.mark.django_db(transaction=True)


def work(ctx: Any) -> None: ...


@pytest.fixture
def guard(settings: Any, monkeypatch: pytest.MonkeyPatch) -> StallGuard:
    """One that has been on the watch for long."""
    settings.WORKFLOWS_EXECUTOR = "django_q"
    made = StallGuard(60)
    now = stall.time.monotonic() + 1000
    monkeypatch.setattr(stall.time, "monotonic", lambda: now)
    return made


def send(*, waited: float = 0, taken: float | None = None) -> None:
    """A message that came, or was taken, so many seconds ago."""
    executor().enqueue(Job(kind="settle", instance_id="0190c5c6-0000-7000-8000-000000000000"))
    newest = OrmQ.objects.order_by("-pk")[:1].get()
    lock = timezone.now() - timedelta(seconds=waited)
    if taken is not None:
        lock = timezone.now() + timedelta(seconds=Conf.RETRY - taken)
    OrmQ.objects.filter(pk=newest.pk).update(lock=lock)


def test_messages_that_nobody_takes_are_a_stall(guard: StallGuard) -> None:
    assert not guard.is_stalled()
    send(waited=50)
    assert not guard.is_stalled()
    send(waited=70)
    send(taken=90)

    assert guard.is_stalled()
    guard.forget()
    assert not guard.is_stalled()


def test_a_queue_from_which_anything_was_taken_is_no_stall(guard: StallGuard) -> None:
    for _ in range(100):
        send(waited=500)
    send(taken=30)

    assert not guard.is_stalled()


def test_workers_that_are_busy_are_no_stall(guard: StallGuard, make_instance: Any) -> None:
    instance = make_instance(name="stalled", work=machine(work))
    machine_steps.claim(str(instance.pk), "work#1", 1)
    send(waited=500)

    assert not guard.is_stalled()


def test_a_queue_elsewhere_cannot_be_judged(guard: StallGuard, settings: Any) -> None:
    settings.WORKFLOWS_EXECUTOR = "recording"

    assert not guard.is_stalled()
