"""Incidents in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from django_workflows import services
from django_workflows.exceptions import WorkflowError
from django_workflows.models import Incident
from django_workflows.tenancy import tenant_of

from .base import ReadOnlyAdmin, badge


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ("kind", "step", "shown_instance", "message", "shown_status", "count", "last_at")
    list_filter = ("status", "kind", "instance__workflow")
    list_select_related = ("instance",)
    search_fields = ("message", "step", "fingerprint", "instance__title")
    ordering = ("-last_at", "-id")
    actions = ("retry_selected",)

    def get_queryset(self, request: HttpRequest) -> Any:
        seen = self.rules.instances(request.user).filter(tenant=tenant_of(request))
        return Incident.objects.filter(instance__in=seen.values("pk"))

    @admin.display(description="instance")
    def shown_instance(self, row: Any) -> str:
        return str(row.instance)

    @admin.display(description="status", ordering="status")
    def shown_status(self, row: Any) -> str:
        return badge("failed" if row.status == "open" else "completed", row.get_status_display())

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """An incident is looked at where it happened."""
        row = self.row(request, object_id)
        url = reverse("admin:django_workflows_workflowinstance_change", args=[row.instance_id])
        return HttpResponseRedirect(f"{url}#incidents")

    @admin.action(description="Retry the steps of the selected incidents")
    def retry_selected(self, request: HttpRequest, queryset: Any) -> None:
        done = 0
        for incident in queryset.open().filter(blocking=True):
            try:
                services.retry_step(incident.execution_id, by=request.user)
                done += 1
            except WorkflowError as error:
                self.message_user(request, f"{incident.step}: {error.message}", messages.ERROR)
        self.message_user(request, f"{done} steps are tried again.", messages.SUCCESS)
