"""Definitions in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from django_workflows import services
from django_workflows.core.codec import from_json
from django_workflows.core.drawing import svg
from django_workflows.core.forms import clean
from django_workflows.core.validation import validate
from django_workflows.exceptions import InvalidDefinition, InvalidForm, NotAuthorized, WorkflowError
from django_workflows.models import WorkflowDefinition
from django_workflows.states import DefinitionStatus
from django_workflows.tenancy import tenant_of

from .base import ReadOnlyAdmin, badge, picture, pretty
from .forms import fields_of, submitted


@admin.register(WorkflowDefinition)
class DefinitionAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "shown_status", "title", "running", "instance_count", "published_at")
    list_filter = ("status", "is_code")
    search_fields = ("name", "title")
    ordering = ("name", "-version_key")
    acts = ("retire", "reactivate", "start")
    page_template = "admin/django_workflows/definition.html"
    change_list_template = "admin/django_workflows/definition_list.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = self.rules.definitions(request.user).filter(tenant=tenant_of(request))
        ended = Q(instances__completed_at__isnull=False)
        return rows.annotate(total=Count("instances"), ended=Count("instances", filter=ended))

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="django_workflows_workflowdefinition_import"), *super().get_urls()]

    @admin.display(description="status", ordering="status")
    def shown_status(self, row: Any) -> str:
        return badge(row.status, row.get_status_display())

    @admin.display(description="running")
    def running(self, row: Any) -> int:
        return int(row.total - row.ended)

    @admin.display(description="instances", ordering="total")
    def instance_count(self, row: Any) -> int:
        return int(row.total)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        may = self.rules.may_publish(request.user, None)
        return super().changelist_view(request, {**(extra_context or {}), "may_publish": may})

    def shown(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        definition = from_json(row.content)
        may_start = row.status == DefinitionStatus.PUBLISHED and self.rules.may_start(
            request.user, row, definition.start
        )
        return {
            "definition": definition,
            "picture": picture(svg(definition)),
            "problems": validate(definition),
            "content": pretty(row.content),
            "may_publish": self.rules.may_publish(request.user, row),
            "may_start": may_start,
            "start_fields": fields_of(definition.data_schema or {}, {}, {}),
            "is_published": row.status == DefinitionStatus.PUBLISHED,
            "is_retired": row.status == DefinitionStatus.RETIRED,
        }

    def act_retire(self, request: HttpRequest, row: Any) -> None:
        services.retire(row, by=request.user)
        self.message_user(request, f"{row} is retired.", messages.SUCCESS)

    def act_reactivate(self, request: HttpRequest, row: Any) -> None:
        services.reactivate(row, by=request.user)
        self.message_user(request, f"{row} can be started again.", messages.SUCCESS)

    def act_start(self, request: HttpRequest, row: Any) -> HttpResponse:
        schema = row.content.get("data_schema") or {}
        data = submitted(request, schema)
        try:
            if schema:
                data = clean(schema, data, coerce=True)
            instance = services.start(row, by=request.user, data=data, tenant=tenant_of(request))
        except InvalidForm as error:
            fields = fields_of(schema, data, error.errors)
            return self.page(request, row, start_fields=fields, form_errors=error.errors.get("", ()))
        self.message_user(request, f"{instance} has been started.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:django_workflows_workflowinstance_change", args=[instance.pk]))

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """A definition as JSON or YAML, published if it is sound; else every problem with its line."""
        text = request.POST.get("text", "")
        context: dict[str, Any] = {"problems": (), "error": ""}
        if request.method == "POST":
            try:
                row = services.publish(text, by=request.user, tenant=tenant_of(request))
            except InvalidDefinition as error:
                context["problems"] = error.problems
            except NotAuthorized as error:
                context["error"] = error.message
            except WorkflowError as error:
                context["error"] = error.message
            else:
                self.message_user(request, f"{row} is published.", messages.SUCCESS)
                return HttpResponseRedirect(self.url_of(row))
        context |= {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": "Publish a definition",
            "text": text,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/django_workflows/definition_import.html", context)
