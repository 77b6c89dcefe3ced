"""Running an instance that is not durable: from its beginning to its end in one worker, in memory.

Its history tells the start, the workers it has lost and the end, and of its data the end is kept.
A lost worker starts it again from the beginning.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction

from django_workflows.core.commands import Command, Conclude, FireTimer, Start, StartStep
from django_workflows.core.definition import Definition
from django_workflows.core.effects import Effect, EnqueueStep
from django_workflows.core.events import Event
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.exceptions import StaleAttempt
from django_workflows.models import WorkflowInstance
from django_workflows.states import INSTANCE_ENDED, EventName, InstanceStatus

from . import clock
from .bodies import alarm_after, call_body, failed, machine_step, succeeded
from .database import alias
from .heartbeat import Pulse, beating, renew_every
from .limits import time_limit
from .loader import about, definition_for, snapshot_of
from .locking import lock
from .machine_steps import lease_end, worker_name
from .reporting import Reporter
from .runner import handle, settle


def run_instance(instance_id: str, key: str, attempt: int) -> None:
    """Run the instance, if this run of it is the current one and no other worker is at it."""
    row, definition, snapshot = _begin(instance_id, attempt)
    pulse = Pulse(renew=lambda: _renew(row), reporter=_silent(), renew_at=time.monotonic() + renew_every())
    with beating(pulse):
        end = _Course(row, definition, snapshot).run()
    handle(row.pk, replace(end, attempt=attempt))


def _begin(instance_id: str, attempt: int) -> tuple[WorkflowInstance, Definition, Snapshot]:
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        definition, snapshot = definition_for(row.definition_id), snapshot_of(row)
        ours = attempt == snapshot.interruptions + 1 and row.lease_until is None and not definition.durable
        if snapshot.status != InstanceStatus.RUNNING or not ours:
            raise StaleAttempt(f"Run {attempt} of {row.pk} does not wait.", status=snapshot.status, attempt=attempt)
        mine = WorkflowInstance.objects.using(alias()).filter(pk=row.pk)
        mine.update(worker=worker_name(), lease_until=lease_end())
        return row, definition, snapshot


def _renew(row: WorkflowInstance) -> bool:
    mine = WorkflowInstance.objects.using(alias()).filter(pk=row.pk, worker=worker_name(), completed_at=None)
    return bool(mine.update(lease_until=lease_end()))


def _silent() -> Reporter:
    """Of a transient instance no progress is kept."""
    return Reporter(lambda reports: None)


class _Course:
    """One run: the commands, with what they lead to kept in memory."""

    def __init__(self, row: WorkflowInstance, definition: Definition, stored: Snapshot) -> None:
        self.row, self.stored = row, stored
        self.definition = replace(definition, durable=True, max_duration="")
        self.snapshot = Snapshot()
        self.jobs: deque[EnqueueStep] = deque()
        self.retries: list[tuple[datetime, str]] = []
        self.incident: Event | None = None
        row.db_now = None  # type: ignore[attr-defined]  # time goes on while it runs

    def run(self) -> Conclude:
        self._apply(Start(data=self.stored.data, about=about(self.row)))
        while self.snapshot.status not in INSTANCE_ENDED and (self.jobs or self.retries):
            self._check_wanted()
            if self.jobs:
                self._run_step(self.jobs.popleft())
            else:
                self._wait_for_retry()
        return self._end()

    def _apply(self, command: Command) -> None:
        self.snapshot, events, effects = settle(self.row, self.definition, self.snapshot, command)
        self._note(events, effects)

    def _note(self, events: Sequence[Event], effects: Sequence[Effect]) -> None:
        self.jobs.extend(effect for effect in effects if isinstance(effect, EnqueueStep))
        for event in events:
            if event.name == EventName.TIMER_STARTED:
                self.retries.append((datetime.fromisoformat(event.payload["due_at"]), event.key))
            elif event.name == EventName.INCIDENT_RAISED and event.payload["blocking"]:
                self.incident = event

    def _check_wanted(self) -> None:
        """Before each step: a run that was canceled or taken over goes no further."""
        rows = WorkflowInstance.objects.using(alias()).filter(pk=self.row.pk, status=InstanceStatus.RUNNING)
        if not rows.filter(worker=worker_name()).exists():
            raise StaleAttempt(f"The run of {self.row.pk} is not wanted any more.", status="", attempt=0)

    def _run_step(self, job: EnqueueStep) -> None:
        self._apply(StartStep(key=job.key, attempt=job.attempt, worker=worker_name()))
        token = self.snapshot.tokens[job.key]
        step = machine_step(self.definition, token)
        whole = transaction.atomic(using=alias()) if step.mode == "transactional" else nullcontext()
        command: Command
        try:
            with time_limit(alarm_after(step)), whole:
                done = call_body(self.row, self.definition, self.snapshot, token, _silent())
                succeeded(self.row, self.definition, self.snapshot, token, done)
            command = done
        except BaseException as error:  # noqa: BLE001 - user code; the worker lives on
            command = self._failure(token, error)
        self._apply(command)

    def _failure(self, token: Token, error: BaseException) -> Command:
        return failed(self.row, self.definition, self.snapshot, token, error)

    def _wait_for_retry(self) -> None:
        """A retry waits in the worker: there is nothing that could wake another one."""
        self.retries.sort()
        due_at, key = self.retries.pop(0)
        time.sleep(max(0.0, (due_at - clock.now()).total_seconds()))
        self._apply(FireTimer(key=key, timer="retry", due_at=due_at))

    def _end(self) -> Conclude:
        found: dict[str, Any] = {"attempt": 0, "data": self.snapshot.data, "steps": self.snapshot.steps}
        if self.snapshot.status == InstanceStatus.COMPLETED:
            return Conclude(outcome=self.snapshot.outcome, output=self.snapshot.output, **found)
        payload = self.incident.payload if self.incident is not None else {}
        message = payload.get("message") or "An output of the definition could not be computed."
        return Conclude(error=message, error_type=payload.get("error_type") or "ExpressionError", **found)
