"""Rows -> values: the snapshot of an instance, and the definition it is pinned to."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django_workflows.core.codec import from_json
from django_workflows.core.commands import Actor
from django_workflows.core.definition import Definition
from django_workflows.core.events import Event
from django_workflows.core.snapshot import STATE_FORMAT, Scope, Snapshot, TaskState, Token
from django_workflows.exceptions import DefinitionError, DefinitionNotFound, WorkflowError
from django_workflows.models import WorkflowDefinition, WorkflowEvent, WorkflowInstance
from django_workflows.states import EventName


@lru_cache(maxsize=512)
def definition_for(definition_id: UUID) -> Definition:
    """The published definition with that key. It never changes, so it is kept."""
    content = WorkflowDefinition.objects.filter(pk=definition_id).values_list("content", flat=True).first()
    if content is None:
        raise DefinitionNotFound(f"There is no definition {definition_id}.", definition_id=str(definition_id))
    return from_json(content)


def sensitive_of(definition_id: Any) -> tuple[str, ...] | None:
    """The keys whose values a definition hides; ``None`` if it cannot be read any more, so that nobody knows."""
    try:
        return definition_for(definition_id).sensitive
    except DefinitionError:
        return None


def about(row: WorkflowInstance) -> dict[str, Any]:
    """What expressions see as ``instance``, and what is fixed at the start."""
    return {
        "id": str(row.pk),
        "workflow": row.workflow,
        "version": row.state.get("version", ""),
        "business_key": row.business_key,
        "title": row.title,
        "initiator": row.initiator_name,
        "tenant": row.tenant,
        "metadata": row.metadata,
        "started_at": row.started_at.isoformat(),
    }


def snapshot_of(row: WorkflowInstance) -> Snapshot:
    """The present of an instance, from its row alone."""
    state = row.state
    if state.get("format", STATE_FORMAT) > STATE_FORMAT:
        raise WorkflowError(
            f"Instance {row.pk} was written by a newer version of django_workflows (state format {state['format']}).",
            instance_id=str(row.pk),
        )
    return Snapshot(
        about=about(row),
        status=row.status,
        outcome=row.outcome,
        last_outcome=state.get("last_outcome", ""),
        end_outcome=state.get("end_outcome", ""),
        started_at=row.started_at,
        sequence=row.sequence,
        entered=state.get("entered", 0),
        data=row.data,
        steps=row.results,
        output=row.output,
        visits=state.get("visits", {}),
        tokens={key: _token(item) for key, item in state.get("tokens", {}).items()},
        scopes={key: Scope(**item) for key, item in state.get("scopes", {}).items()},
        timers=tuple(state.get("timers", ())),
        interruptions=state.get("interruptions", 0),
        canceling=state.get("canceling", {}),
    )


def _token(item: dict[str, Any]) -> Token:
    fields = {**item, "since": datetime.fromisoformat(item["since"])}
    for name in ("timers", "incidents"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "task" in fields:
        fields["task"] = TaskState(**fields["task"])
    return Token(**fields)


def event_of(line: WorkflowEvent) -> Event:
    """The event that a row of the log records."""
    return Event(
        name=EventName(line.name),
        at=line.at,
        sequence=line.sequence,
        by=Actor(id=str(line.actor_id or ""), name=line.actor_name, on_behalf_of=line.on_behalf_of_name),
        step=line.step,
        occurrence=line.occurrence,
        index=line.step_index,
        attempt=line.attempt,
        outcome=line.outcome,
        duration=line.duration,
        payload=line.payload,
    )


def state_of(snapshot: Snapshot, ids: dict[str, str]) -> dict[str, Any]:
    """The token state as it is stored; ``ids`` are the primary keys of the open step executions."""
    state: dict[str, Any] = {
        "format": STATE_FORMAT,
        "version": snapshot.about.get("version", ""),
        "entered": snapshot.entered,
        "visits": dict(snapshot.visits),
        "tokens": {key: _token_json(token) for key, token in snapshot.tokens.items()},
        "ids": {key: ids[key] for key in snapshot.tokens},
    }
    if snapshot.scopes:
        state["scopes"] = {
            key: {"parent": s.parent, "branch": s.branch, "live": s.live, "writes": dict(s.writes)}
            for key, s in snapshot.scopes.items()
        }
    for name in ("last_outcome", "end_outcome", "interruptions"):
        if value := getattr(snapshot, name):
            state[name] = value
    if snapshot.timers:
        state["timers"] = list(snapshot.timers)
    if snapshot.canceling:
        state["canceling"] = dict(snapshot.canceling)
    return state


_SMALL = ("scope", "branch", "interruptions", "arrived")


def _token_json(token: Token) -> dict[str, Any]:
    item: dict[str, Any] = {
        "step": token.step,
        "occurrence": token.occurrence,
        "index": token.index,
        "status": str(token.status),
        "since": token.since.isoformat(),
        "attempt": token.attempt,
    }
    for name in _SMALL:
        if value := getattr(token, name):
            item[name] = value
    for name in ("timers", "incidents"):
        if value := getattr(token, name):
            item[name] = list(value)
    if token.task is not None:
        item["task"] = _task_json(token.task)
    return item


def _task_json(task: TaskState) -> dict[str, Any]:
    item: dict[str, Any] = {"status": str(task.status), "electorate": task.electorate}
    for name in ("holder", "holder_name", "claimed"):
        if value := getattr(task, name):
            item[name] = value
    if task.counts:
        item["counts"] = dict(task.counts)
    return item
