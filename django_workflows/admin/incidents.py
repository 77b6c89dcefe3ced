"""Incidents in the admin."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from django_workflows import services
from django_workflows.engine.loader import definition_for
from django_workflows.exceptions import DefinitionError, InvalidInput, WorkflowError
from django_workflows.models import Incident
from django_workflows.states import IncidentStatus
from django_workflows.tenancy import tenant_of

from .base import ReadOnlyAdmin, badge

RETRY = ("retry", _("Try again"), _("The step is called again, with the data corrected first if need be."))
SKIP = ("skip", _("Skip the step"), _("The flow goes on as if the step had ended with this outcome and output."))
FAIL = ("fail", _("Fail the instance"), _("The instance ends as failed, with all that is open in it."))
DISMISS = ("dismiss", _("Dismiss"), _("It stops nothing; note that it has been seen to."))


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ("kind", "step", "shown_instance", "message", "shown_status", "count", "last_at")
    list_filter = ("status", "kind", "instance__workflow")
    list_select_related = ("instance",)
    search_fields = ("message", "step", "fingerprint", "instance__title")
    ordering = ("-last_at", "-id")
    actions = ("retry_selected",)
    acts = ("resolve",)
    page_template = "admin/django_workflows/incident.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        seen = self.rules.instances(request.user).filter(tenant=tenant_of(request))
        return Incident.objects.filter(instance__in=seen.values("pk"))

    @admin.display(description="instance")
    def shown_instance(self, row: Any) -> str:
        return str(row.instance)

    @admin.display(description="status", ordering="status")
    def shown_status(self, row: Any) -> str:
        return badge("failed" if row.status == IncidentStatus.OPEN else "completed", row.get_status_display())

    def shown(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        may = self.rules.may_administer(request.user, row.instance)
        is_open = row.status == IncidentStatus.OPEN
        alike = self.get_queryset(request).open().filter(fingerprint=row.fingerprint)
        return {
            "title": f"{row.kind}: {row.step}",
            "status_badge": self.shown_status(row),
            "may_administer": may,
            "acts": ((RETRY, SKIP, FAIL) if row.blocking else (DISMISS, FAIL)) if may and is_open else (),
            "alike": alike.count(),
            "outcomes": _outcomes(row),
        }

    def act_resolve(self, request: HttpRequest, row: Any) -> HttpResponse:
        found: dict[str, Any] = {name: request.POST[name] for name in ("reason", "outcome") if request.POST.get(name)}
        found |= {name: _json(request.POST[name], name) for name in ("data", "output") if request.POST.get(name)}
        action = request.POST.get("action", "")
        if request.POST.get("everywhere") == "on":
            report = services.resolve_all(row.fingerprint, action, by=request.user, tenant=row.tenant, **found)
            self.message_user(request, f"{report.done} of {report.found} incidents are resolved.", messages.SUCCESS)
            for _key, why in report.refused[:5]:
                self.message_user(request, why, messages.WARNING)
        else:
            services.resolve(row, action, by=request.user, **found)
            self.message_user(request, "The incident is resolved.", messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(row))

    @admin.action(description=_("Retry the steps of the selected incidents"))
    def retry_selected(self, request: HttpRequest, queryset: Any) -> None:
        done = 0
        for incident in queryset.open().filter(blocking=True):
            try:
                services.resolve(incident, "retry", by=request.user)
                done += 1
            except WorkflowError as error:
                self.message_user(request, f"{incident.step}: {error.message}", messages.ERROR)
        self.message_user(request, f"{done} steps are tried again.", messages.SUCCESS)


def _outcomes(row: Any) -> tuple[str, ...]:
    """What the step offers; nothing where its drawing cannot be read."""
    try:
        step = definition_for(row.instance.definition_id).by_name.get(row.step)
    except DefinitionError:
        return ()
    return step.outcomes_offered() if step is not None else ()


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"The {field} is no JSON: {error}", field=field) from error
