"""Statuses, event names, and the moves between statuses as tables: the only list of what is legal.

``TextChoices`` is the one Django name the core may see.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

Status = TypeVar("Status", bound=TextChoices)


class DefinitionStatus(TextChoices):
    DRAFT = "draft", _("Draft")
    PUBLISHED = "published", _("Published")
    RETIRED = "retired", _("Retired")


class InstanceStatus(TextChoices):
    PENDING = "pending", _("Pending")
    RUNNING = "running", _("Running")
    WAITING = "waiting", _("Waiting")
    PAUSED = "paused", _("Paused")
    COMPLETED = "completed", _("Completed")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")


class StepStatus(TextChoices):
    PENDING = "pending", _("Pending")
    SCHEDULED = "scheduled", _("Scheduled")
    RUNNING = "running", _("Running")
    WAITING = "waiting", _("Waiting")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")
    SKIPPED = "skipped", _("Skipped")


class TaskStatus(TextChoices):
    OPEN = "open", _("Open")
    CLAIMED = "claimed", _("Claimed")
    DELEGATED = "delegated", _("Delegated")
    COMPLETED = "completed", _("Completed")
    CANCELED = "canceled", _("Canceled")
    EXPIRED = "expired", _("Expired")


class TimerStatus(TextChoices):
    OPEN = "open", _("Open")
    FIRED = "fired", _("Fired")
    CANCELED = "canceled", _("Canceled")


class IncidentStatus(TextChoices):
    OPEN = "open", _("Open")
    RESOLVED = "resolved", _("Resolved")


class EventName(StrEnum):
    """The same word is the name of the Django signal."""

    WORKFLOW_STARTED = "workflow_started"
    WORKFLOW_COMPLETED = "workflow_completed"
    WORKFLOW_FAILED = "workflow_failed"
    WORKFLOW_CANCELED = "workflow_canceled"
    WORKFLOW_PAUSED = "workflow_paused"
    WORKFLOW_RESUMED = "workflow_resumed"
    WORKFLOW_INTERRUPTED = "workflow_interrupted"
    WORKFLOW_COMMENTED = "workflow_commented"
    CANCELLATION_REQUESTED = "cancellation_requested"
    LEGAL_HOLD_SET = "legal_hold_set"
    LEGAL_HOLD_LIFTED = "legal_hold_lifted"
    STEP_SCHEDULED = "step_scheduled"
    STEP_STARTED = "step_started"
    STEP_PROGRESS = "step_progress"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    STEP_SKIPPED = "step_skipped"
    STEP_TIMED_OUT = "step_timed_out"
    STEP_RETRYING = "step_retrying"
    STEP_CANCELED = "step_canceled"
    STEP_ACTION_STARTED = "step_action_started"
    STEP_ACTION_COMPLETED = "step_action_completed"
    STEP_ACTION_FAILED = "step_action_failed"
    HUMAN_TASK_CREATED = "human_task_created"
    HUMAN_TASK_ASSIGNED = "human_task_assigned"
    HUMAN_TASK_CLAIMED = "human_task_claimed"
    HUMAN_TASK_RELEASED = "human_task_released"
    HUMAN_TASK_REASSIGNED = "human_task_reassigned"
    HUMAN_TASK_REMINDED = "human_task_reminded"
    HUMAN_TASK_OVERDUE = "human_task_overdue"
    HUMAN_TASK_DECIDED = "human_task_decided"
    HUMAN_TASK_COMPLETED = "human_task_completed"
    HUMAN_TASK_CANCELED = "human_task_canceled"
    HUMAN_TASK_COMMENTED = "human_task_commented"
    TIMER_STARTED = "timer_started"
    TIMER_FIRED = "timer_fired"
    TIMER_CANCELED = "timer_canceled"
    INCIDENT_RAISED = "incident_raised"
    INCIDENT_RESOLVED = "incident_resolved"
    DEFINITION_PUBLISHED = "definition_published"
    DEFINITION_RETIRED = "definition_retired"


INSTANCE_ENDED: Final = frozenset({InstanceStatus.COMPLETED, InstanceStatus.FAILED, InstanceStatus.CANCELED})
STEP_ENDED: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.CANCELED, StepStatus.SKIPPED})
TASK_OPEN: Final = frozenset({TaskStatus.OPEN, TaskStatus.CLAIMED, TaskStatus.DELEGATED})

_LIVE = (InstanceStatus.RUNNING, InstanceStatus.WAITING)

#: (status, verb) -> status. ``advance`` is every move the engine makes by itself;
#: whether a live instance is then running or waiting is told by its open step executions.
INSTANCE_MOVES: Final[Mapping[tuple[InstanceStatus, str], InstanceStatus]] = {
    (InstanceStatus.PENDING, "start"): InstanceStatus.RUNNING,
    **{(status, "advance"): InstanceStatus.RUNNING for status in _LIVE},
    **{(status, "pause"): InstanceStatus.PAUSED for status in _LIVE},
    (InstanceStatus.PAUSED, "resume"): InstanceStatus.RUNNING,
    **{(status, "cancel"): InstanceStatus.CANCELED for status in (*_LIVE, InstanceStatus.PAUSED)},
    **{(status, "complete"): InstanceStatus.COMPLETED for status in _LIVE},
    **{(status, "fail"): InstanceStatus.FAILED for status in (*_LIVE, InstanceStatus.PAUSED)},
}

#: (status, verb) -> status of a step execution.
STEP_MOVES: Final[Mapping[tuple[StepStatus, str], StepStatus]] = {
    (StepStatus.PENDING, "schedule"): StepStatus.SCHEDULED,
    (StepStatus.PENDING, "wait"): StepStatus.WAITING,
    (StepStatus.SCHEDULED, "start"): StepStatus.RUNNING,
    (StepStatus.SCHEDULED, "complete"): StepStatus.SUCCEEDED,
    (StepStatus.SCHEDULED, "fail"): StepStatus.FAILED,
    (StepStatus.SCHEDULED, "backoff"): StepStatus.WAITING,
    (StepStatus.RUNNING, "complete"): StepStatus.SUCCEEDED,
    (StepStatus.RUNNING, "fail"): StepStatus.FAILED,
    (StepStatus.RUNNING, "backoff"): StepStatus.WAITING,
    (StepStatus.WAITING, "complete"): StepStatus.SUCCEEDED,
    (StepStatus.WAITING, "schedule"): StepStatus.SCHEDULED,
    (StepStatus.WAITING, "fail"): StepStatus.FAILED,
    (StepStatus.FAILED, "retry"): StepStatus.PENDING,
    **{
        (status, verb): ended
        for status in (
            StepStatus.PENDING,
            StepStatus.SCHEDULED,
            StepStatus.RUNNING,
            StepStatus.WAITING,
            StepStatus.FAILED,
        )
        for verb, ended in (("skip", StepStatus.SKIPPED), ("cancel", StepStatus.CANCELED))
    },
}

#: (status, verb) -> status of a human task; ``decide`` leaves a task open until its policy is met.
TASK_MOVES: Final[Mapping[tuple[TaskStatus, str], TaskStatus]] = {
    (TaskStatus.OPEN, "claim"): TaskStatus.CLAIMED,
    (TaskStatus.CLAIMED, "release"): TaskStatus.OPEN,
    **{(status, "reassign"): TaskStatus.OPEN for status in TASK_OPEN},
    **{(status, "decide"): status for status in TASK_OPEN},
    **{(status, "complete"): TaskStatus.COMPLETED for status in TASK_OPEN},
    **{(status, "cancel"): TaskStatus.CANCELED for status in TASK_OPEN},
    **{(status, "expire"): TaskStatus.EXPIRED for status in TASK_OPEN},
}


def allowed_verbs(moves: Mapping[tuple[Status, str], Status], status: str) -> tuple[str, ...]:
    """The verbs that ``moves`` allows in ``status``, sorted, for messages and front ends."""
    return tuple(sorted(verb for (at, verb) in moves if at == status))
