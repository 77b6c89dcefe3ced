"""Definitions over REST."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from django_workflows import registry, services
from django_workflows.core.codec import from_json
from django_workflows.core.drawing import dot, graph, mermaid, svg
from django_workflows.core.validation import validate
from django_workflows.exceptions import InvalidDefinition, InvalidInput

from .base import Pages, View
from .filters import DefinitionFilter
from .rendering import definition_detail, definition_row, instance_row

START_FIELDS: dict[str, Any] = {
    "data": dict,
    "business_key": str,
    "idempotency_key": str,
    "metadata": dict,
    "subject": dict,
}


class DefinitionPages(Pages):
    ordering = ("name", "-version_key", "id")


class DefinitionView(View):
    """Stored workflow definitions."""

    filter_backends = (DjangoFilterBackend,)
    filterset_class = DefinitionFilter
    pagination_class = DefinitionPages

    def get_queryset(self) -> Any:
        return self.rules.definitions(self.request.user).filter(tenant=self.tenant)

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset().defer("content")))
        return self.get_paginated_response([definition_row(row) for row in rows or ()])

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(definition_detail(self.found(self.get_queryset())))

    @action(detail=True)
    def versions(self, request: Request, pk: str) -> Response:
        """Every version of the same name, the newest first."""
        row = self.found(self.get_queryset())
        rows = self.get_queryset().filter(name=row.name).defer("content").order_by("-version_key")
        return Response([definition_row(version) for version in rows])

    @action(detail=True)
    def graph(self, request: Request, pk: str) -> Any:
        """The drawing: ``?as=json`` (default), ``svg``, ``mermaid`` or ``dot``."""
        row = self.found(self.get_queryset())
        return picture(request, from_json(row.content), {})

    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        return started(self, self.found(self.get_queryset()))

    @action(detail=False, methods=["post"])
    def publish(self, request: Request) -> Response:
        row = services.publish(self.body, by=request.user, tenant=self.tenant)
        return Response(definition_detail(row), status=201)

    @action(detail=False, methods=["post"])
    def validate(self, request: Request) -> Response:
        """Every problem of a definition, which is not stored."""
        try:
            definition = from_json(self.body)
            problems = list(validate(definition))
            missing = [p for p in registry.function_references(definition) if not registry.has_function(p[1])]
        except InvalidDefinition as error:
            problems, missing = list(error.problems), []
        names = ("code", "severity", "place", "message", "suggestion")
        found = [{name: getattr(problem, name) for name in names} for problem in problems]
        found += [
            {"code": "function_not_registered", "severity": "error", "place": place, "message": name, "suggestion": ""}
            for place, name in missing
        ]
        return Response({"valid": all(item["severity"] != "error" for item in found), "problems": found})

    @action(detail=True, methods=["post"])
    def retire(self, request: Request, pk: str) -> Response:
        row = self.found(self.get_queryset())
        return Response(definition_row(services.retire(row, by=request.user)))

    @action(detail=True, methods=["post"])
    def reactivate(self, request: Request, pk: str) -> Response:
        row = self.found(self.get_queryset())
        return Response(definition_row(services.reactivate(row, by=request.user)))


def started(view: View, workflow: Any, body: dict[str, Any] | None = None) -> Response:
    """Start an instance from the body: 201, or 200 for an idempotency key that is known."""
    body = view.wanted(**START_FIELDS) if body is None else body
    key = body.get("idempotency_key", "")
    subject = _subject(view, body.pop("subject")) if "subject" in body else None
    before = key and view.rules.instances(view.request.user).filter(tenant=view.tenant, idempotency_key=key).exists()
    instance = services.start(workflow, by=view.request.user, tenant=view.tenant, subject=subject, **body)
    return Response(instance_row(instance), status=200 if before else 201)


def _subject(view: View, wanted: dict[str, Any]) -> Any:
    """The model row named by ``{"type": "app.model", "id": …}``, if the user may view it."""
    label, key = str(wanted.get("type", "")), wanted.get("id")
    app, _, model = label.partition(".")
    kind = ContentType.objects.filter(app_label=app, model=model.lower()).first()
    model_class = kind.model_class() if kind else None
    if model_class is None:
        raise InvalidInput(f"There is no model {label!r}.", field="subject")
    user: Any = view.request.user
    right = f"{app}.view_{model.lower()}"
    try:
        row = model_class._default_manager.filter(pk=key).first()
    except (ValueError, TypeError):
        row = None
    if row is None or not (user.has_perm(right) or user.has_perm(right, row)):
        raise InvalidInput(f"There is no {label} {key!r} that you may see.", field="subject")
    return row


def picture(request: Request, definition: Any, states: dict[str, str]) -> Any:
    """The drawing in the form that ``?as=`` names."""
    form = request.query_params.get("as", "json")
    if form == "json":
        return Response(graph(definition, states))
    if form not in ("svg", "mermaid", "dot"):
        raise InvalidInput(f"{form!r} is no form of a drawing; allowed: json, svg, mermaid, dot.", field="as")
    draw: Any = {"svg": svg, "mermaid": mermaid, "dot": dot}[form]
    kind = "image/svg+xml" if form == "svg" else "text/plain; charset=utf-8"
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
    return HttpResponse(draw(definition, states), content_type=kind, headers=headers)
