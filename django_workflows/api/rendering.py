"""Rows as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django_workflows.core.drawing import states_of
from django_workflows.core.steps import HumanStep
from django_workflows.engine.loader import definition_for
from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)

from .base import masked


def definition_row(row: WorkflowDefinition) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "name": row.name,
        "version": row.version,
        "title": row.title,
        "description": row.description,
        "tags": row.tags,
        "status": row.status,
        "start": row.start,
        "is_code": row.is_code,
        "content_hash": row.content_hash,
        "published_at": row.published_at,
        "published_by": row.published_by_name,
    }


def definition_detail(row: WorkflowDefinition) -> dict[str, Any]:
    return {**definition_row(row), "definition": row.content, "data_schema": row.content.get("data_schema")}


def instance_row(row: WorkflowInstance) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "workflow": row.workflow,
        "version": row.state.get("version", ""),
        "definition": str(row.definition_id),
        "title": row.title,
        "business_key": row.business_key,
        "status": row.status,
        "outcome": row.outcome,
        "initiator": row.initiator_name,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        "duration": row.duration,
        "open_steps": open_steps(row),
    }


def open_steps(row: WorkflowInstance) -> list[dict[str, Any]]:
    return [
        {"key": key, "step": token["step"], "status": token["status"], "execution": row.state["ids"].get(key)}
        for key, token in row.state.get("tokens", {}).items()
    ]


def instance_detail(row: WorkflowInstance, actions: list[str]) -> dict[str, Any]:
    def hidden(value: Any) -> Any:
        return masked(value, row.definition_id)

    return {
        **instance_row(row),
        "data": hidden(row.data),
        "metadata": hidden(row.metadata),
        "results": hidden(row.results),
        "output": hidden(row.output),
        "error": row.error,
        "error_type": row.error_type,
        "cancel_requested_at": row.cancel_requested_at,
        "legal_hold": row.legal_hold,
        "subject": {"type": str(row.subject_type), "id": row.subject_id} if row.subject_type_id else None,
        "parent": str(row.parent_id) if row.parent_id else None,
        "revision": row.sequence,
        "tasks": [task_row(task) for task in row.human_tasks.all()],
        "incidents": [incident_row(incident) for incident in row.incidents.all()],
        "available_actions": actions,
    }


def instance_actions(row: WorkflowInstance, *, may_administer: bool, may_cancel: bool) -> list[str]:
    """The verbs the user may use on the instance as it stands."""
    allowed = {"cancel"} if may_cancel else set()
    allowed |= {"pause", "resume", "fail", "cancel"} if may_administer else set()
    holds = ["lift_hold" if row.legal_hold else "hold"] if may_administer else []
    return [verb for verb in row.verbs if verb in allowed] + holds


def states(row: WorkflowInstance) -> dict[str, str]:
    """Step -> its state in pictures."""
    tokens = row.state.get("tokens", {}).values()
    return states_of({token["step"]: token["status"] for token in tokens}, row.results)


def task_row(task: HumanTask) -> dict[str, Any]:
    return {
        "id": str(task.pk),
        "instance": str(task.instance_id),
        "step": task.step,
        "title": task.title,
        "status": task.status,
        "outcome": task.outcome,
        "assignee": task.assignee_name,
        "priority": task.priority,
        "created_at": task.created_at,
        "due_at": task.due_at,
        "completed_at": task.completed_at,
        "completed_by": task.completed_by_name,
    }


def task_in_list(task: HumanTask) -> dict[str, Any]:
    instance = task.instance
    return {
        **task_row(task),
        "workflow": instance.workflow,
        "instance_title": str(instance),
        "initiator": instance.initiator_name,
    }


def task_form(task: HumanTask) -> dict[str, Any]:
    """What a front end needs to put the question."""
    step = definition_for(task.instance.definition_id).step(task.step)
    if not isinstance(step, HumanStep):
        raise TypeError(f"{task.step} is no human step.")
    return {
        "schema": step.form,
        "outcomes": [
            {
                "value": outcome,
                "label": step.labels.get(outcome, outcome.replace("_", " ").capitalize()),
                "comment_required": outcome in step.comment_required,
            }
            for outcome in step.outcomes
        ],
        "quorum": str(step.quorum_policy),
        "claim_required": step.claim_required,
    }


def task_detail(task: HumanTask, actions: Sequence[str]) -> dict[str, Any]:
    candidates = [
        {"kind": "group" if c.group_id else "user", "name": c.group.name if c.group else str(c.user)}
        for c in task.candidates.all()
        if c.kind == "candidate"
    ]
    return {
        **task_in_list(task),
        "description": task.description,
        "form": task_form(task),
        "candidates": candidates,
        "electorate": task.electorate,
        "decisions": [decision_row(row, task.instance.definition_id) for row in task.decisions.all()],
        "available_actions": actions,
    }


def decision_row(row: Decision, definition_id: Any) -> dict[str, Any]:
    return {
        "actor": row.actor_name,
        "on_behalf_of": row.on_behalf_of_name,
        "outcome": row.outcome,
        "comment": row.comment,
        "form": masked(row.form, definition_id),
        "decided_at": row.decided_at,
    }


def step_row(row: StepExecution, *, in_full: bool, definition_id: Any) -> dict[str, Any]:
    """One passage through a step; the traceback is for administrators."""
    found = {
        "id": str(row.pk),
        "key": row.key,
        "step": row.step,
        "type": row.step_type,
        "index": row.index,
        "status": row.status,
        "outcome": row.outcome,
        "output": masked(row.output, definition_id),
        "attempt": row.attempt,
        "interruptions": row.interruptions,
        "next_attempt_at": row.next_attempt_at,
        "worker": row.worker,
        "error": row.error,
        "error_type": row.error_type,
        "progress": row.progress,
        "assigned_to": row.assigned_to_name,
        "completed_by": row.completed_by_name,
        "scheduled_at": row.scheduled_at,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        "duration": row.duration,
    }
    return {**found, "traceback": row.traceback} if in_full else found


def event_row(row: WorkflowEvent, *, in_full: bool) -> dict[str, Any]:
    """A line of the history; ``diagnostics`` hold tracebacks, which are for administrators."""
    payload: Mapping[str, Any] = masked(row.payload, row.definition_id)
    if not in_full:
        payload = {key: value for key, value in payload.items() if key != "diagnostics"}
    return {
        "sequence": row.sequence,
        "name": row.name,
        "at": row.at,
        "step": row.step,
        "occurrence": row.occurrence,
        "step_index": row.step_index,
        "attempt": row.attempt,
        "outcome": row.outcome,
        "duration": row.duration,
        "actor": row.actor_name,
        "on_behalf_of": row.on_behalf_of_name,
        "payload": payload,
    }


def incident_row(row: Incident) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "instance": str(row.instance_id),
        "execution": str(row.execution_id),
        "step": row.step,
        "kind": row.kind,
        "message": row.message,
        "error_type": row.error_type,
        "suggested_action": row.suggested_action,
        "blocking": row.blocking,
        "status": row.status,
        "count": row.count,
        "fingerprint": row.fingerprint,
        "first_at": row.first_at,
        "last_at": row.last_at,
        "resolved_at": row.resolved_at,
        "resolved_by": row.resolved_by_name,
        "resolution": row.resolution,
    }
