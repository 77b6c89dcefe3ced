"""The present of one instance, and ``evolve``: the only way it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django_workflows.states import InstanceStatus, StepStatus, TaskStatus

from .events import Event, EventName
from .values import plain

#: The shape of the stored token state; a reader refuses a newer one.
STATE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """What deciding needs to know of a human task without reading its row.

    ``holder`` is the primary key (text) of the user who alone may decide, if there is one.
    """

    status: str = TaskStatus.OPEN
    holder: str = ""
    holder_name: str = ""
    claimed: bool = False
    electorate: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One open step execution; its key is ``name#occurrence``."""

    step: str
    occurrence: int
    index: int
    status: str
    since: datetime
    scope: str = ""
    branch: str = ""
    attempt: int = 1
    interruptions: int = 0
    arrived: int = 0
    timers: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()
    task: TaskState | None = None

    @property
    def key(self) -> str:
        return f"{self.step}#{self.occurrence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The inside of a fork: how many branches live, and which branch wrote which key of the data."""

    parent: str
    branch: str
    live: int
    writes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything ``decide`` may look at. ``about`` holds what is fixed at the start: ``id``,
    ``workflow``, ``version``, ``business_key``, ``initiator``, ``tenant``, ``metadata`` and
    ``started_at`` (RFC 3339), as expressions see it under ``instance``."""

    about: Mapping[str, Any] = field(default_factory=dict)
    status: str = InstanceStatus.PENDING
    outcome: str = ""
    last_outcome: str = ""
    end_outcome: str = ""
    started_at: datetime | None = None
    sequence: int = 0
    entered: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    visits: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    #: Timers of the instance as a whole.
    timers: tuple[str, ...] = ()
    #: How often a worker of this instance was lost.
    interruptions: int = 0
    #: ``reason`` and ``by`` of a cancellation that waits for steps at work; empty if there is none.
    canceling: Mapping[str, str] = field(default_factory=dict)


def scope_of(snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    """The names that expressions see."""
    return {
        "data": plain(snapshot.data),
        "steps": plain(snapshot.steps),
        "instance": {**snapshot.about, "status": str(snapshot.status), "outcome": snapshot.last_outcome},
        "now": now,
    }


def scopes_within(scopes: Mapping[str, Scope], outer: str) -> frozenset[str]:
    """The scope itself and every fork inside of it."""
    found = {outer}
    while True:
        more = {key for key, scope in scopes.items() if scope.parent in found} - found
        if not more:
            return frozenset(found)
        found |= more


def evolve(snapshot: Snapshot, event: Event) -> Snapshot:
    """The snapshot after the event; total over ``EventName``, and free of rules."""
    apply = _EVOLVE.get(event.name)
    changed = apply(snapshot, event) if apply else {}
    status = changed.get("status", snapshot.status)
    if status in (InstanceStatus.RUNNING, InstanceStatus.WAITING):
        changed["status"] = _live_status(changed.get("tokens", snapshot.tokens))
    return replace(snapshot, sequence=event.sequence, **changed)


def _live_status(tokens: Mapping[str, Token]) -> str:
    busy = any(token.status in (StepStatus.SCHEDULED, StepStatus.RUNNING) for token in tokens.values())
    return InstanceStatus.RUNNING if busy or not tokens else InstanceStatus.WAITING


Changes = dict[str, Any]


def _started(snapshot: Snapshot, event: Event) -> Changes:
    return {
        "status": InstanceStatus.RUNNING,
        "about": event.payload["about"],
        "data": event.payload["data"],
        "started_at": event.at,
    }


def _ended(status: str) -> Callable[[Snapshot, Event], Changes]:
    def apply(snapshot: Snapshot, event: Event) -> Changes:
        return {
            "status": status,
            "outcome": event.outcome,
            "output": event.payload.get("output", {}),
            "data": event.payload.get("data", snapshot.data),
            "steps": event.payload.get("steps", snapshot.steps),
            "tokens": {},
            "scopes": {},
            "canceling": {},
        }

    return apply


def _canceling(snapshot: Snapshot, event: Event) -> Changes:
    return {"canceling": {"reason": event.payload["reason"], "by": event.by.name}}


def _paused(snapshot: Snapshot, event: Event) -> Changes:
    return {"status": InstanceStatus.PAUSED}


def _resumed(snapshot: Snapshot, event: Event) -> Changes:
    return {"status": InstanceStatus.RUNNING}


def _step_opened(snapshot: Snapshot, event: Event) -> Changes:
    """``step_scheduled`` and ``step_started``: the first of them makes the token."""
    status = event.payload["status"]
    old = snapshot.tokens.get(event.key)
    if old is not None:
        since = event.at if event.name is EventName.STEP_STARTED else old.since
        token = replace(old, status=status, attempt=event.attempt, since=since)
        return {"tokens": {**snapshot.tokens, event.key: token}}
    token = Token(
        step=event.step,
        occurrence=event.occurrence,
        index=event.index,
        status=status,
        since=event.at,
        scope=event.payload["scope"],
        branch=event.payload["branch"],
        attempt=event.attempt,
    )
    return {
        "tokens": {**snapshot.tokens, event.key: token},
        "visits": {**snapshot.visits, event.step: event.occurrence},
        "entered": max(snapshot.entered, event.index),
    }


def _with_token(snapshot: Snapshot, event: Event, **fields: Any) -> Changes:
    token = snapshot.tokens[event.key]
    return {"tokens": {**snapshot.tokens, event.key: replace(token, **fields)}}


def _without_token(snapshot: Snapshot, event: Event) -> dict[str, Token]:
    return {key: token for key, token in snapshot.tokens.items() if key != event.key}


def _step_completed(snapshot: Snapshot, event: Event) -> Changes:
    payload = event.payload
    changed: Changes = {"tokens": _without_token(snapshot, event)}
    changed["steps"] = {**snapshot.steps, event.step: payload["result"]}
    if payload.get("decided"):
        changed["last_outcome"] = event.outcome
    if payload.get("ends"):
        changed["end_outcome"] = event.outcome
    changed.update(_data_changes(snapshot, event))
    if payload.get("opens"):
        opened = Scope(parent=payload["scope"], branch=payload["branch"], live=payload["opens"])
        changed["scopes"] = {**changed.get("scopes", snapshot.scopes), event.key: opened}
    if payload.get("closes"):
        scopes = changed.get("scopes", snapshot.scopes)
        closed = scopes_within(scopes, payload["closes"])
        changed["scopes"] = {key: scope for key, scope in scopes.items() if key not in closed}
    return changed | _dead_end(snapshot, event, changed)


def _dead_end(snapshot: Snapshot, event: Event, changed: Changes) -> Changes:
    """A branch that ends here will never reach its join: its scope waits for one fewer."""
    key = event.payload.get("dead_end")
    if not key:
        return {}
    scopes = dict(changed.get("scopes", snapshot.scopes))
    scope = scopes.pop(key)
    if scope.live > 1:
        scopes[key] = replace(scope, live=scope.live - 1)
    return {"scopes": scopes}


def _data_changes(snapshot: Snapshot, event: Event) -> Changes:
    """Apply ``changes`` and ``removed``, and note in the scope which branch wrote what."""
    changes, removed = event.payload.get("changes", {}), event.payload.get("removed", ())
    if not changes and not removed:
        return {}
    data = {key: value for key, value in snapshot.data.items() if key not in removed} | changes
    scopes = dict(snapshot.scopes)
    token = snapshot.tokens.get(event.key)
    scope, branch = (token.scope, token.branch) if token else ("", "")
    while scope:
        old = scopes[scope]
        scopes[scope] = replace(old, writes={**old.writes, **dict.fromkeys((*changes, *removed), branch)})
        scope, branch = old.parent, old.branch
    return {"data": data, "scopes": scopes}


def _step_failed(snapshot: Snapshot, event: Event) -> Changes:
    if event.payload.get("leaves"):
        result = {
            "outcome": "failed",
            "error": event.payload["error"],
            "error_type": event.payload["error_type"],
        }
        return {
            "tokens": _without_token(snapshot, event),
            "steps": {**snapshot.steps, event.step: result},
        }
    return _with_token(snapshot, event, status=StepStatus.FAILED)


def _step_retrying(snapshot: Snapshot, event: Event) -> Changes:
    waits = event.payload.get("resume_at") is not None
    status = StepStatus.WAITING if waits else StepStatus.PENDING
    changed = _with_token(snapshot, event, status=status, attempt=event.attempt)
    return changed | _data_changes(snapshot, event)


def _step_skipped(snapshot: Snapshot, event: Event) -> Changes:
    changed: Changes = {"tokens": _without_token(snapshot, event)}
    changed["steps"] = {**snapshot.steps, event.step: event.payload["result"]}
    if event.key not in snapshot.tokens:
        changed["visits"] = {**snapshot.visits, event.step: event.occurrence}
        changed["entered"] = max(snapshot.entered, event.index)
    return changed | _dead_end(snapshot, event, changed)


def _step_canceled(snapshot: Snapshot, event: Event) -> Changes:
    return {"tokens": _without_token(snapshot, event)}


def _step_progress(snapshot: Snapshot, event: Event) -> Changes:
    arrived = event.payload.get("arrived")
    return {} if arrived is None else _with_token(snapshot, event, arrived=arrived, status=event.payload["status"])


def _interrupted(snapshot: Snapshot, event: Event) -> Changes:
    changed: Changes = {"interruptions": snapshot.interruptions + 1}
    if event.key:
        token = snapshot.tokens[event.key]
        changed |= _with_token(snapshot, event, interruptions=token.interruptions + 1)
    return changed


def _task_created(snapshot: Snapshot, event: Event) -> Changes:
    task = TaskState(electorate=event.payload["electorate"])
    return _with_token(snapshot, event, status=StepStatus.WAITING, task=task)


def _task(**known: Any) -> Callable[[Snapshot, Event], Changes]:
    """Set fields of the task; a callable is given the event and the task."""

    def apply(snapshot: Snapshot, event: Event) -> Changes:
        task = snapshot.tokens[event.key].task
        if task is None:
            raise LookupError(f"{event.name} for {event.key}, which has no human task")
        fields = {name: value(event, task) if callable(value) else value for name, value in known.items()}
        return _with_token(snapshot, event, task=replace(task, **fields))

    return apply


def _counted(event: Event, task: TaskState) -> Mapping[str, int]:
    return {**task.counts, event.outcome: task.counts.get(event.outcome, 0) + 1}


def _timer_started(snapshot: Snapshot, event: Event) -> Changes:
    if not event.key:
        return {"timers": (*snapshot.timers, event.payload["timer"])}
    token = snapshot.tokens[event.key]
    fields: dict[str, Any] = {"timers": (*token.timers, event.payload["timer"])}
    if event.payload["timer"] == "sleep":
        fields["status"] = StepStatus.WAITING
    return _with_token(snapshot, event, **fields)


def _timer_gone(snapshot: Snapshot, event: Event) -> Changes:
    if not event.key:
        return {"timers": tuple(timer for timer in snapshot.timers if timer != event.payload["timer"])}
    token = snapshot.tokens[event.key]
    return _with_token(snapshot, event, timers=tuple(t for t in token.timers if t != event.payload["timer"]))


def _incident_raised(snapshot: Snapshot, event: Event) -> Changes:
    token = snapshot.tokens[event.key]
    fields: dict[str, Any] = {"incidents": (*token.incidents, event.payload["kind"])}
    if event.payload["blocking"]:
        fields["status"] = StepStatus.FAILED
    return _with_token(snapshot, event, **fields)


def _incident_resolved(snapshot: Snapshot, event: Event) -> Changes:
    token = snapshot.tokens[event.key]
    return _with_token(snapshot, event, incidents=tuple(k for k in token.incidents if k != event.payload["kind"]))


_EVOLVE: Final[Mapping[EventName, Callable[[Snapshot, Event], Changes]]] = {
    EventName.WORKFLOW_STARTED: _started,
    EventName.WORKFLOW_COMPLETED: _ended(InstanceStatus.COMPLETED),
    EventName.WORKFLOW_FAILED: _ended(InstanceStatus.FAILED),
    EventName.WORKFLOW_CANCELED: _ended(InstanceStatus.CANCELED),
    EventName.CANCELLATION_REQUESTED: _canceling,
    EventName.WORKFLOW_PAUSED: _paused,
    EventName.WORKFLOW_RESUMED: _resumed,
    EventName.WORKFLOW_INTERRUPTED: _interrupted,
    EventName.STEP_SCHEDULED: _step_opened,
    EventName.STEP_STARTED: _step_opened,
    EventName.STEP_PROGRESS: _step_progress,
    EventName.STEP_COMPLETED: _step_completed,
    EventName.STEP_FAILED: _step_failed,
    EventName.STEP_RETRYING: _step_retrying,
    EventName.STEP_SKIPPED: _step_skipped,
    EventName.STEP_CANCELED: _step_canceled,
    EventName.HUMAN_TASK_CREATED: _task_created,
    EventName.HUMAN_TASK_ASSIGNED: _task(
        holder=lambda e, t: e.payload["assignee"]["id"],
        holder_name=lambda e, t: e.payload["assignee"]["name"],
    ),
    EventName.HUMAN_TASK_CLAIMED: _task(
        status=TaskStatus.CLAIMED,
        claimed=True,
        holder=lambda e, t: e.by.id,
        holder_name=lambda e, t: e.by.name,
    ),
    EventName.HUMAN_TASK_RELEASED: _task(status=TaskStatus.OPEN, claimed=False, holder="", holder_name=""),
    EventName.HUMAN_TASK_REASSIGNED: _task(
        status=lambda e, t: TaskStatus.OPEN if not e.payload["slot"] else t.status,
        claimed=lambda e, t: False if not e.payload["slot"] else t.claimed,
        electorate=lambda e, t: e.payload["electorate"],
        holder="",
        holder_name="",
    ),
    EventName.HUMAN_TASK_DECIDED: _task(counts=_counted),
    EventName.HUMAN_TASK_COMPLETED: _task(status=TaskStatus.COMPLETED),
    EventName.HUMAN_TASK_CANCELED: _task(status=TaskStatus.CANCELED),
    EventName.TIMER_STARTED: _timer_started,
    EventName.TIMER_FIRED: _timer_gone,
    EventName.TIMER_CANCELED: _timer_gone,
    EventName.INCIDENT_RAISED: _incident_raised,
    EventName.INCIDENT_RESOLVED: _incident_resolved,
}
