"""What has happened: one line of the history each, in the past tense.

``CATALOGUE`` is the contract: for every name, the payload fields that are always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django_workflows.states import EventName

from .commands import SYSTEM, Actor

__all__ = ["CATALOGUE", "Event", "EventName"]


_OPENED = ("type", "status", "scope", "branch")

#: Event name -> the payload fields it always carries. Durations are seconds, times RFC 3339 in UTC.
CATALOGUE: Final[Mapping[EventName, tuple[str, ...]]] = {
    EventName.WORKFLOW_STARTED: ("about", "data"),
    EventName.WORKFLOW_COMPLETED: ("output",),
    EventName.WORKFLOW_FAILED: ("error", "error_type"),
    EventName.WORKFLOW_CANCELED: ("reason", "requested_by"),
    EventName.WORKFLOW_PAUSED: ("reason", "steps"),
    EventName.WORKFLOW_RESUMED: ("reason", "steps"),
    EventName.WORKFLOW_INTERRUPTED: ("worker", "interruptions"),
    EventName.WORKFLOW_COMMENTED: ("text",),
    EventName.CANCELLATION_REQUESTED: ("reason",),
    EventName.LEGAL_HOLD_SET: ("reason",),
    EventName.LEGAL_HOLD_LIFTED: ("reason",),
    EventName.STEP_SCHEDULED: _OPENED,
    EventName.STEP_STARTED: (*_OPENED, "worker"),
    EventName.STEP_PROGRESS: ("text", "fraction", "metadata"),
    EventName.STEP_COMPLETED: ("result", "changes"),
    EventName.STEP_FAILED: ("error", "error_type", "retryable", "diagnostics"),
    EventName.STEP_TIMED_OUT: ("limit",),
    EventName.STEP_SKIPPED: ("type", "reason", "result"),
    EventName.STEP_RETRYING: ("reason", "resume_at"),
    EventName.STEP_CANCELED: ("reason",),
    EventName.STEP_ACTION_STARTED: ("action", "text", "metadata"),
    EventName.STEP_ACTION_COMPLETED: ("action", "text", "metadata"),
    EventName.STEP_ACTION_FAILED: ("action", "error", "error_type", "diagnostics"),
    EventName.HUMAN_TASK_CREATED: (
        "title",
        "description",
        "candidates",
        "electorate",
        "due_at",
        "resolution",
    ),
    EventName.HUMAN_TASK_ASSIGNED: ("assignee",),
    EventName.HUMAN_TASK_CLAIMED: (),
    EventName.HUMAN_TASK_RELEASED: ("previous",),
    EventName.HUMAN_TASK_REASSIGNED: ("previous", "to", "reason", "slot", "electorate"),
    EventName.HUMAN_TASK_REMINDED: ("due_at",),
    EventName.HUMAN_TASK_OVERDUE: ("due_at",),
    EventName.HUMAN_TASK_DECIDED: ("form", "comment", "verdict"),
    EventName.HUMAN_TASK_COMPLETED: ("counts", "electorate"),
    EventName.HUMAN_TASK_CANCELED: ("reason",),
    EventName.HUMAN_TASK_COMMENTED: ("text",),
    EventName.TIMER_STARTED: ("timer", "due_at"),
    EventName.TIMER_FIRED: ("timer", "due_at", "late"),
    EventName.TIMER_CANCELED: ("timer", "reason"),
    EventName.INCIDENT_RAISED: (
        "kind",
        "message",
        "error_type",
        "blocking",
        "suggested_action",
        "diagnostics",
    ),
    EventName.INCIDENT_RESOLVED: ("kind", "resolution"),
    EventName.DEFINITION_PUBLISHED: ("name", "version", "content_hash"),
    EventName.DEFINITION_RETIRED: ("name", "version"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the history. ``duration`` is in seconds, for events that end something."""

    name: EventName
    at: datetime
    sequence: int
    by: Actor = SYSTEM
    step: str = ""
    occurrence: int = 0
    index: int = 0
    attempt: int = 0
    outcome: str = ""
    duration: float | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [key for key in CATALOGUE[self.name] if key not in self.payload]
        if missing:
            raise TypeError(f"{self.name} lacks the payload fields {', '.join(missing)}")

    @property
    def key(self) -> str:
        """The step execution it concerns, as ``name#occurrence``; empty for the whole instance."""
        return f"{self.step}#{self.occurrence}" if self.step else ""
