from __future__ import annotations

from typing import Any

import pytest

from django_workflows import machine
from django_workflows.engine import machine_steps, stall
from django_workflows.engine.executors import executor
from django_workflows.engine.stall import StallGuard

pytestmark = pytest.mark.django_db(transaction=True)


def work(ctx: Any) -> None: ...


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(type(executor()), "waiting", lambda self: frozenset(messages))
    return messages


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(stall.time, "monotonic", lambda: now[0])
    return now


def test_messages_that_nobody_takes_are_a_stall(queue: list[str], at: list[float]) -> None:
    queue += ["1", "2"]
    guard = StallGuard(60)

    assert not guard.is_stalled()
    at[0] += 59
    assert not guard.is_stalled()
    queue.append("3")
    at[0] += 2
    assert guard.is_stalled()
    guard.forget()
    assert not guard.is_stalled()


def test_a_queue_that_moves_or_is_empty_is_no_stall(queue: list[str], at: list[float]) -> None:
    guard = StallGuard(60)
    for number in range(10):
        queue[:] = [str(number), str(number + 1)] if number % 5 else []
        at[0] += 59
        assert not guard.is_stalled()


def test_workers_that_are_busy_are_no_stall(queue: list[str], at: list[float], make_instance: Any) -> None:
    make_instance(name="stalled", work=machine(work))
    job = executor().jobs.pop()  # type: ignore[attr-defined]
    machine_steps.claim(job.instance_id, job.key, job.attempt)
    queue.append("1")
    guard = StallGuard(60)

    for _ in range(5):
        at[0] += 100
        assert not guard.is_stalled()
