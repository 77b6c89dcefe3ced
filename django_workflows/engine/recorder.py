"""Events -> rows: one function, one transaction.

Every row is a projection of the events, so that the log and the rows cannot tell different stories.
What a transition creates and changes again is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django_workflows.core.events import Event
from django_workflows.core.snapshot import Snapshot
from django_workflows.models import (
    Decision,
    HumanTask,
    TaskCandidate,
    Timer,
    WorkflowInstance,
)
from django_workflows.models.human_tasks import CANDIDATE, EXCLUDED
from django_workflows.models.keys import user_key
from django_workflows.states import (
    INSTANCE_ENDED,
    EventName,
    InstanceStatus,
    StepStatus,
    TaskStatus,
    TimerStatus,
)

from .book import Book
from .loader import state_of
from .rows import insert, together, update


def record(
    row: WorkflowInstance, snapshot: Snapshot, events: Sequence[Event], *, is_new: bool = False
) -> list[list[Any]]:
    """Write everything that the events say, and the instance row; returns the values of the event rows."""
    book = Book(row)
    for event in events:
        book.lines.append(book.line(event))
        writer = _WRITERS.get(event.name)
        if writer is not None:
            writer(book, event)
    _apply(row, snapshot, events[-1].at, book)
    with together():
        if is_new:
            insert(WorkflowInstance, [row])
        else:
            update(row, INSTANCE_FIELDS + tuple(book.instance_fields))
        book.write()
    return book.lines


INSTANCE_FIELDS = (
    "title",
    "status",
    "outcome",
    "data",
    "results",
    "output",
    "state",
    "sequence",
    "error",
    "error_type",
    "completed_at",
    "paused_at",
    "updated_at",
)


def _apply(row: WorkflowInstance, snapshot: Snapshot, now: datetime, book: Book) -> None:
    row.status, row.outcome = str(snapshot.status), snapshot.outcome
    row.data, row.results, row.output = dict(snapshot.data), dict(snapshot.steps), dict(snapshot.output)
    row.sequence, row.updated_at = snapshot.sequence, now
    row.started_at = snapshot.started_at or now
    if snapshot.status in INSTANCE_ENDED and row.completed_at is None:
        row.completed_at = now
    if snapshot.status != InstanceStatus.PAUSED:
        row.paused_at = None
    elif row.paused_at is None:
        row.paused_at = now
    row.state = state_of(snapshot, book.ids)


def _closing(event: Event, status: StepStatus, **fields: Any) -> dict[str, Any]:
    """Every closing writes the same columns, so that several fit in one statement."""
    return {
        "status": status,
        "outcome": event.outcome,
        "output": None,
        "completed_at": event.at,
        "duration": event.duration,
        "completed_by_id": user_key(event.by),
        "completed_by_name": event.by.name,
        "lease_until": None,
        **fields,
    }


def _step_opened(book: Book, event: Event) -> None:
    book.open_execution(event)
    status = event.payload["status"]
    fields: dict[str, Any] = {"status": status, "attempt": event.attempt}
    if event.attempt > 1:
        fields["next_attempt_at"] = None
    if event.name == EventName.STEP_SCHEDULED:
        fields["scheduled_at"] = event.at
    else:
        fields |= {"started_at": event.at, "worker": event.payload["worker"]}
    book.change(event, **fields)


def _step_completed(book: Book, event: Event) -> None:
    book.change(event, **_closing(event, StepStatus.SUCCEEDED, output=event.payload["result"].get("output")))
    if "input" in event.payload:
        book.change(event, input=event.payload["input"])


def _step_failed(book: Book, event: Event) -> None:
    payload = event.payload
    error = {
        "error": payload["error"],
        "error_type": payload["error_type"],
        "traceback": payload["diagnostics"].get("traceback", ""),
    }
    if payload.get("leaves"):
        book.change(event, **_closing(event, StepStatus.FAILED), **error)
    else:
        book.change(event, status=StepStatus.FAILED, lease_until=None, **error)


def _step_retrying(book: Book, event: Event) -> None:
    resume_at = event.payload["resume_at"]
    status = StepStatus.WAITING if resume_at else StepStatus.PENDING
    moment = datetime.fromisoformat(resume_at) if resume_at else None
    book.change(event, status=status, attempt=event.attempt, lease_until=None, next_attempt_at=moment)


def _interrupted(book: Book, event: Event) -> None:
    if event.key:
        book.change(event, interruptions=event.payload["interruptions"])
    else:
        book.change_instance(worker="", lease_until=None)


def _cancellation_requested(book: Book, event: Event) -> None:
    book.change_instance(cancel_requested_at=event.at)


def _legal_hold(book: Book, event: Event) -> None:
    book.change_instance(legal_hold=event.name == EventName.LEGAL_HOLD_SET)


def _step_skipped(book: Book, event: Event) -> None:
    book.open_execution(event)
    output = event.payload["result"].get("output")
    book.change(event, **_closing(event, StepStatus.SKIPPED, output=output, error=event.payload["reason"]))


def _step_canceled(book: Book, event: Event) -> None:
    book.change(event, **_closing(event, StepStatus.CANCELED))


def _step_progress(book: Book, event: Event) -> None:
    payload = event.payload
    fields: dict[str, Any] = {
        "progress": {"text": payload["text"], "fraction": payload["fraction"], "at": event.at.isoformat()}
    }
    if payload.get("arrived") is not None:
        fields["status"] = payload["status"]
    book.change(event, **fields)


def _task_created(book: Book, event: Event) -> None:
    payload = event.payload
    due_at = datetime.fromisoformat(payload["due_at"]) if payload["due_at"] else None
    key = book.execution_id(event.key)
    book.tasks[event.key] = HumanTask(
        pk=key,
        tenant=book.row.tenant,
        instance_id=book.row.pk,
        execution_id=key,
        step=event.step,
        occurrence=event.occurrence,
        title=payload["title"][:200],
        description=payload["description"],
        priority=payload.get("priority", 0),
        electorate=payload["electorate"],
        resolution=payload["resolution"],
        created_at=event.at,
        due_at=due_at,
    )
    people = payload["candidates"]
    for kind, field, found in (
        (CANDIDATE, "user_id", people["users"]),
        (CANDIDATE, "group_id", people["groups"]),
        (EXCLUDED, "user_id", people["excluded"]),
    ):
        for person in found:
            candidate = TaskCandidate(task_id=key, kind=kind, due_at=due_at, **{field: person["id"]})
            book.candidates.append(candidate)
    book.change(event, status=StepStatus.WAITING)


def _task_assigned(book: Book, event: Event) -> None:
    person = event.payload["assignee"]
    book.change_task(event, assignee_id=person["id"], assignee_name=person["name"])
    book.change(event, assigned_to_name=person["name"])


def _task_claimed(book: Book, event: Event) -> None:
    book.change_task(
        event,
        status=TaskStatus.CLAIMED,
        assignee_id=user_key(event.by),
        assignee_name=event.by.name,
        claimed_at=event.at,
    )
    book.change(event, assigned_to_name=event.by.name)


def _task_released(book: Book, event: Event) -> None:
    book.change_task(event, status=TaskStatus.OPEN, assignee_id=None, assignee_name="", claimed_at=None)
    book.change(event, assigned_to_name="")


def _task_reassigned(book: Book, event: Event) -> None:
    """The whole task, or one person's answer, changes hands: so do the candidates."""
    task, to = book.execution_id(event.key), event.payload["to"]
    if event.payload["slot"]:
        mine = TaskCandidate.objects.filter(task=task, user=event.payload["previous"]["id"], kind=CANDIDATE)
        mine.delete()
        book.candidates.append(TaskCandidate(task_id=task, kind=EXCLUDED, user_id=event.payload["previous"]["id"]))
    else:
        TaskCandidate.objects.filter(task=task, kind=CANDIDATE).delete()
        book.change_task(event, status=TaskStatus.OPEN, assignee_id=None, assignee_name="", claimed_at=None)
    due_at = HumanTask.objects.filter(pk=task).values_list("due_at", flat=True).first()
    field = "user_id" if to["kind"] == "user" else "group_id"
    book.candidates.append(TaskCandidate(task_id=task, due_at=due_at, **{field: to["id"]}))


def _task_decided(book: Book, event: Event) -> None:
    payload = event.payload
    book.decisions.append(
        Decision(
            tenant=book.row.tenant,
            task_id=book.execution_id(event.key),
            actor_id=user_key(event.by),
            actor_name=event.by.name,
            on_behalf_of_name=event.by.on_behalf_of,
            outcome=event.outcome,
            comment=payload["comment"],
            form=payload["form"],
            decided_at=event.at,
        )
    )


def _task_completed(book: Book, event: Event) -> None:
    _close_task(book, event, TaskStatus.COMPLETED)


def _task_canceled(book: Book, event: Event) -> None:
    _close_task(book, event, TaskStatus.CANCELED)


def _close_task(book: Book, event: Event, status: TaskStatus) -> None:
    book.change_task(
        event,
        status=status,
        outcome=event.outcome,
        completed_at=event.at,
        completed_by_id=user_key(event.by),
        completed_by_name=event.by.name,
    )
    book.closed_tasks.append(event.key)
    if event.key in book.tasks:
        for candidate in book.candidates:
            candidate.is_open = candidate.is_open and candidate.task_id != book.execution_id(event.key)


def _task_reminded(book: Book, event: Event) -> None:
    book.change_task(event, reminded_at=event.at)


def _timer_started(book: Book, event: Event) -> None:
    name = event.payload["timer"]
    book.timers[event.key, name] = Timer(
        tenant=book.row.tenant,
        instance_id=book.row.pk,
        execution_id=book.execution_id(event.key) if event.key else None,
        step=event.step,
        occurrence=event.occurrence,
        name=name,
        due_at=datetime.fromisoformat(event.payload["due_at"]),
    )
    if name == "sleep":
        book.change(event, status=StepStatus.WAITING)


def _timer_fired(book: Book, event: Event) -> None:
    book.timer_ends.setdefault(TimerStatus.FIRED, []).append((event.key, event.payload["timer"]))


def _timer_canceled(book: Book, event: Event) -> None:
    book.timer_ends.setdefault(TimerStatus.CANCELED, []).append((event.key, event.payload["timer"]))


def _incident(book: Book, event: Event) -> None:
    book.incidents.append((event.key, event))
    if event.name == EventName.INCIDENT_RAISED and event.payload["blocking"]:
        book.change(event, status=StepStatus.FAILED)


def _workflow_failed(book: Book, event: Event) -> None:
    book.row.error, book.row.error_type = event.payload["error"], event.payload["error_type"]


_WRITERS = {
    EventName.WORKFLOW_FAILED: _workflow_failed,
    EventName.WORKFLOW_INTERRUPTED: _interrupted,
    EventName.CANCELLATION_REQUESTED: _cancellation_requested,
    EventName.LEGAL_HOLD_SET: _legal_hold,
    EventName.LEGAL_HOLD_LIFTED: _legal_hold,
    EventName.STEP_SCHEDULED: _step_opened,
    EventName.STEP_STARTED: _step_opened,
    EventName.STEP_PROGRESS: _step_progress,
    EventName.STEP_COMPLETED: _step_completed,
    EventName.STEP_FAILED: _step_failed,
    EventName.STEP_RETRYING: _step_retrying,
    EventName.STEP_SKIPPED: _step_skipped,
    EventName.STEP_CANCELED: _step_canceled,
    EventName.HUMAN_TASK_CREATED: _task_created,
    EventName.HUMAN_TASK_ASSIGNED: _task_assigned,
    EventName.HUMAN_TASK_CLAIMED: _task_claimed,
    EventName.HUMAN_TASK_RELEASED: _task_released,
    EventName.HUMAN_TASK_REASSIGNED: _task_reassigned,
    EventName.HUMAN_TASK_REMINDED: _task_reminded,
    EventName.HUMAN_TASK_DECIDED: _task_decided,
    EventName.HUMAN_TASK_COMPLETED: _task_completed,
    EventName.HUMAN_TASK_CANCELED: _task_canceled,
    EventName.TIMER_STARTED: _timer_started,
    EventName.TIMER_FIRED: _timer_fired,
    EventName.TIMER_CANCELED: _timer_canceled,
    EventName.INCIDENT_RAISED: _incident,
    EventName.INCIDENT_RESOLVED: _incident,
}
