"""Instances in the admin."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest

from django_workflows import services
from django_workflows.conf import settings
from django_workflows.core.definition import Definition
from django_workflows.core.drawing import states_of, svg
from django_workflows.core.masking import mask
from django_workflows.engine.loader import definition_for
from django_workflows.exceptions import DefinitionError, InvalidInput
from django_workflows.models import WorkflowInstance
from django_workflows.states import IncidentStatus, StepStatus
from django_workflows.tenancy import tenant_of

from .base import ReadOnlyAdmin, badge, duration, picture, pretty

EVENTS_PER_PAGE = 100


class HasIncident(admin.SimpleListFilter):
    title = "incidents"
    parameter_name = "incidents"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return (("open", "With open incidents"),)

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset.with_open_incidents() if self.value() == "open" else queryset


@admin.register(WorkflowInstance)
class InstanceAdmin(ReadOnlyAdmin):
    list_display = (
        "shown_title",
        "workflow",
        "shown_status",
        "outcome",
        "initiator_name",
        "started_at",
        "shown_duration",
        "open_incidents",
    )
    list_filter = ("status", HasIncident, "workflow", "started_at")
    search_fields = ("title", "business_key", "workflow")
    ordering = ("-started_at", "-id")
    acts = ("cancel", "pause", "resume", "fail", "retry", "skip", "hold", "lift")
    page_template = "admin/django_workflows/instance.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = self.rules.instances(request.user).filter(tenant=tenant_of(request))
        is_open = Q(incidents__status=IncidentStatus.OPEN)
        return rows.annotate(incident_count=Count("incidents", filter=is_open, distinct=True))

    @admin.display(description="title", ordering="title")
    def shown_title(self, row: Any) -> str:
        return str(row)

    @admin.display(description="status", ordering="status")
    def shown_status(self, row: Any) -> str:
        return badge(row.status, row.get_status_display())

    @admin.display(description="duration")
    def shown_duration(self, row: Any) -> str:
        return duration(row.duration)

    @admin.display(description="incidents", ordering="incident_count")
    def open_incidents(self, row: Any) -> Any:
        return badge("failed", str(row.incident_count)) if row.incident_count else "–"

    def shown(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        definition = _definition(row)
        tokens = row.state.get("tokens", {}).values()
        states = states_of({token["step"]: token["status"] for token in tokens}, row.results)
        may = self.rules.may_administer(request.user, row)
        allowed = {"pause", "resume", "fail", "cancel"} if may else set()
        allowed |= {"cancel"} if self.rules.may_cancel(request.user, row) else set()
        pages = Paginator(row.events.order_by("-sequence"), EVENTS_PER_PAGE)
        events = pages.get_page(request.GET.get("events"))
        return {
            "definition": definition,
            "picture": picture(svg(definition, states, title=str(row))) if definition.steps else "",
            "status_badge": badge(row.status, row.get_status_display()),
            "duration": duration(row.duration),
            "verbs": [verb for verb in row.verbs if verb in allowed],
            "may_administer": may,
            "executions": [_timeline(step, definition) for step in row.step_executions.order_by("index")],
            "tasks": row.human_tasks.open().order_by("created_at"),
            "incidents": row.incidents.open().select_related("execution"),
            "data": pretty(row.data, row.definition_id),
            "metadata": pretty(row.metadata, row.definition_id) if row.metadata else "",
            "results": pretty(row.results, row.definition_id),
            "output": pretty(row.output, row.definition_id) if row.output else "",
            "events": events,
            "lines": [(event, _summary(event, definition)) for event in events],
        }

    def act_cancel(self, request: HttpRequest, row: Any) -> None:
        force = request.POST.get("force") == "on"
        done = services.cancel(row, by=request.user, reason=request.POST.get("reason", ""), force=force)
        text = f"{row} is canceled." if done.is_ended else f"{row} will be canceled when the step at work has ended."
        self.message_user(request, text, messages.SUCCESS)

    def act_pause(self, request: HttpRequest, row: Any) -> None:
        services.pause(row, by=request.user, reason=request.POST.get("reason", ""))
        self.message_user(request, f"{row} is paused.", messages.SUCCESS)

    def act_resume(self, request: HttpRequest, row: Any) -> None:
        services.resume(row, by=request.user, reason=request.POST.get("reason", ""))
        self.message_user(request, f"{row} goes on.", messages.SUCCESS)

    def act_fail(self, request: HttpRequest, row: Any) -> None:
        services.fail(row, by=request.user, reason=request.POST.get("reason", ""))
        self.message_user(request, f"{row} has failed.", messages.SUCCESS)

    def act_hold(self, request: HttpRequest, row: Any) -> None:
        services.hold(row, by=request.user, reason=request.POST.get("reason", ""))
        self.message_user(request, f"{row} is under legal hold.", messages.SUCCESS)

    def act_lift(self, request: HttpRequest, row: Any) -> None:
        services.lift_hold(row, by=request.user, reason=request.POST.get("reason", ""))
        self.message_user(request, f"The legal hold of {row} is lifted.", messages.SUCCESS)

    def act_retry(self, request: HttpRequest, row: Any) -> None:
        services.retry_step(_execution(request, row), by=request.user)
        self.message_user(request, "The step is tried again.", messages.SUCCESS)

    def act_skip(self, request: HttpRequest, row: Any) -> None:
        services.skip_step(
            _execution(request, row),
            by=request.user,
            reason=request.POST.get("reason", ""),
            outcome=request.POST.get("outcome", ""),
        )
        self.message_user(request, "The step is skipped.", messages.SUCCESS)


def _definition(row: Any) -> Definition:
    """The drawing; an empty one where it cannot be read any more."""
    try:
        return definition_for(row.definition_id)
    except DefinitionError:
        return Definition(name=row.workflow)


def _execution(request: HttpRequest, row: Any) -> Any:
    """The step execution that the form names; it belongs to this instance."""
    key = request.POST.get("execution", "")
    found = next((step for step in row.step_executions.all() if str(step.pk) == key), None)
    if found is None:
        raise InvalidInput("There is no such step in this instance.", field="execution")
    return found


def _timeline(step: Any, definition: Any) -> dict[str, Any]:
    drawn = definition.by_name.get(step.step)
    may_skip = step.is_open and step.status != StepStatus.RUNNING and step.step_type != "fork"
    return {
        "step": step,
        "label": drawn.label if drawn else step.step,
        "badge": badge(step.status, step.get_status_display()),
        "duration": duration(step.duration),
        "who": step.completed_by_name if step.completed_at else step.assigned_to_name,
        "may_skip": may_skip,
        "progress": step.progress if step.status == StepStatus.RUNNING else None,
        "may_retry": step.status == StepStatus.FAILED,
        "outcomes": drawn.outcomes_offered() if drawn else (),
    }


def _summary(event: Any, definition: Any) -> str:
    """The payload on one line, for people; the rest is in the API."""
    keys = (*settings.SENSITIVE_KEYS, *definition.sensitive)
    shown = {
        k: v for k, v in event.payload.items() if k not in ("diagnostics", "about", "type", "scope", "branch") and v
    }
    text = json.dumps(mask(shown, keys), ensure_ascii=False, default=str)
    return "" if text == "{}" else text if len(text) < 300 else text[:299] + "…"
