"""What one transition writes, gathered, and then written once."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from django.db.models import F

from django_workflows.core.events import Event
from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.models.keys import new_id, user_key
from django_workflows.states import EventName, IncidentStatus, TimerStatus

from .rows import columns_of, insert, insert_values, update_where, upsert


class Book:
    """What one transition writes, gathered."""

    def __init__(self, row: WorkflowInstance) -> None:
        self.row = row
        self.lines: list[list[Any]] = []
        self.ids: dict[str, str] = dict(row.state.get("ids", {}))
        self.executions: dict[str, StepExecution] = {}
        self.execution_changes: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, HumanTask] = {}
        self.task_changes: dict[str, dict[str, Any]] = {}
        self.candidates: list[TaskCandidate] = []
        self.closed_tasks: list[str] = []
        self.decisions: list[Decision] = []
        self.timers: dict[tuple[str, str], Timer] = {}
        self.timer_ends: dict[str, list[tuple[str, str]]] = {}
        self.incidents: list[tuple[str, Event]] = []
        self.instance_fields: dict[str, None] = {}

    def line(self, event: Event) -> list[Any]:
        """The event as the values of a row, which is made an object only if somebody listens."""
        values = {
            "id": new_id(),
            "tenant": self.row.tenant,
            "instance_id": self.row.pk,
            "definition_id": self.row.definition_id,
            "sequence": event.sequence,
            "name": event.name.value,
            "at": event.at,
            "step": event.step,
            "occurrence": event.occurrence,
            "step_index": event.index,
            "attempt": event.attempt,
            "outcome": event.outcome,
            "duration": event.duration,
            "actor_id": user_key(event.by),
            "actor_name": event.by.name,
            "on_behalf_of_name": event.by.on_behalf_of,
            "payload": event.payload,
        }
        return [values[name] for name in columns_of(WorkflowEvent)]

    def execution_id(self, key: str) -> UUID:
        return UUID(self.ids[key])

    def change(self, event: Event, **fields: Any) -> None:
        """Set fields of the step execution, new or old."""
        if event.key in self.executions:
            _set(self.executions[event.key], fields)
        else:
            self.execution_changes.setdefault(event.key, {}).update(fields)

    def change_instance(self, **fields: Any) -> None:
        """Set fields of the instance that not every transition writes."""
        _set(self.row, fields)
        self.instance_fields |= dict.fromkeys(fields)

    def change_task(self, event: Event, **fields: Any) -> None:
        if event.key in self.tasks:
            _set(self.tasks[event.key], fields)
        else:
            self.task_changes.setdefault(event.key, {}).update(fields)

    def open_execution(self, event: Event) -> None:
        """The first event of a step execution makes its row."""
        key = event.key
        if key in self.ids:
            return
        self.executions[key] = StepExecution(
            instance_id=self.row.pk,
            tenant=self.row.tenant,
            step=event.step,
            step_type=event.payload["type"],
            occurrence=event.occurrence,
            index=event.index,
        )
        self.ids[key] = str(self.executions[key].pk)

    def write(self) -> None:
        self._write_executions()
        insert(HumanTask, list(self.tasks.values()))
        self._write_task_changes()
        insert(TaskCandidate, self.candidates)
        if self.closed_tasks:
            closed = [self.execution_id(key) for key in self.closed_tasks if key not in self.tasks]
            if closed:
                update_where(TaskCandidate, {"is_open": False}, {"task_id": closed, "is_open": True})
        insert(Decision, self.decisions)
        self._write_timers()
        self._write_incidents()
        insert_values(WorkflowEvent, self.lines)

    def _write_executions(self) -> None:
        """New rows and changed ones in one statement where the changes are alike."""
        alike: dict[tuple[str, ...], list[StepExecution]] = {}
        for key, fields in self.execution_changes.items():
            step, _, occurrence = key.rpartition("#")
            row = StepExecution(
                pk=self.execution_id(key),
                instance_id=self.row.pk,
                step=step,
                occurrence=int(occurrence),
                index=0,
                **fields,
            )
            alike.setdefault(tuple(sorted(fields)), []).append(row)
        new = list(self.executions.values())
        for fields_changed, rows in alike.items():
            upsert(StepExecution, [*new, *rows], fields_changed, ("instance_id", "step", "occurrence"))
            new = []
        insert(StepExecution, new)

    def _write_task_changes(self) -> None:
        """One statement for all tasks that change alike."""
        alike: list[tuple[dict[str, Any], list[UUID]]] = []
        for key, fields in self.task_changes.items():
            same = next((keys for found, keys in alike if found == fields), None)
            if same is None:
                alike.append((fields, same := []))
            same.append(self.execution_id(key))
        for fields, keys in alike:
            update_where(HumanTask, fields, {"id": keys})

    def _write_timers(self) -> None:
        now = self.row.updated_at
        for status, ended in self.timer_ends.items():
            old = []
            for key, name in ended:
                timer = self.timers.get((key, name))
                if timer is None:
                    old.append((key, name))
                else:
                    timer.status, timer.closed_at = status, now
            of_steps = [(key, name) for key, name in old if key]
            if len(of_steps) < len(old):
                names = [name for key, name in old if not key]
                where: dict[str, Any] = {"instance_id": self.row.pk, "name": names, "status": TimerStatus.OPEN}
                update_where(Timer, {"status": status, "closed_at": now}, where)
            old = of_steps
            if old:
                where = {
                    "execution_id": list({self.execution_id(key) for key, _ in old}),
                    "name": list({name for _, name in old}),
                    "status": TimerStatus.OPEN,
                }
                update_where(Timer, {"status": status, "closed_at": now}, where)
        insert(Timer, list(self.timers.values()))

    def _write_incidents(self) -> None:
        """What is raised and resolved in one transition is written once, as resolved."""
        fresh: dict[tuple[str, str], Incident] = {}
        for key, event in self.incidents:
            kind = event.payload["kind"]
            if event.name == EventName.INCIDENT_RESOLVED:
                fields = _resolution(event)
                if (key, kind) in fresh:
                    _set(fresh[key, kind], fields)
                else:
                    Incident.objects.filter(execution=self.execution_id(key), kind=kind).update(**fields)
            elif not self._raise_again(key, event):
                fresh[key, kind] = self._incident(key, event)
        insert(Incident, list(fresh.values()))

    def _raise_again(self, key: str, event: Event) -> int:
        rows = Incident.objects.filter(execution=self.execution_id(key), kind=event.payload["kind"])
        return rows.update(
            status=IncidentStatus.OPEN, last_at=event.at, count=F("count") + 1, resolved_at=None, **_facts(event)
        )

    def _incident(self, key: str, event: Event) -> Incident:
        payload = event.payload
        cause = f"{self.row.workflow}|{event.step}|{payload['kind']}|{payload['error_type']}"
        return Incident(
            tenant=self.row.tenant,
            instance_id=self.row.pk,
            execution_id=self.execution_id(key),
            step=event.step,
            kind=payload["kind"],
            fingerprint=hashlib.sha256(cause.encode()).hexdigest(),
            first_at=event.at,
            last_at=event.at,
            **_facts(event),
        )


def _facts(event: Event) -> dict[str, Any]:
    names = ("message", "error_type", "diagnostics", "suggested_action", "blocking")
    return {name: event.payload[name] for name in names}


def _resolution(event: Event) -> dict[str, Any]:
    return {
        "status": IncidentStatus.RESOLVED,
        "resolved_at": event.at,
        "resolved_by_id": user_key(event.by),
        "resolved_by_name": event.by.name,
        "resolution": event.payload["resolution"],
    }


def _set(row: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
