"""Incidents over REST: one by one, by cause, and all of one cause at once."""

from __future__ import annotations

from typing import Any, Final

from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from django_workflows import services
from django_workflows.models import Incident

from .base import Pages, View
from .filters import IncidentFilter
from .rendering import incident_row

_ANYTHING: Final = (str, int, float, bool, dict, list, type(None))
_RESOLUTION: Final[dict[str, Any]] = {
    "action": str,
    "reason": str,
    "data": dict,
    "output": _ANYTHING,
    "outcome": str,
}


class IncidentPages(Pages):
    ordering = ("-last_at", "-id")


class IncidentView(View):
    """What a person must look at, in the instances that the user may see."""

    filter_backends = (DjangoFilterBackend,)
    filterset_class = IncidentFilter
    pagination_class = IncidentPages

    def get_queryset(self) -> Any:
        seen = self.rules.instances(self.request.user).filter(tenant=self.tenant)
        return Incident.objects.filter(instance__in=seen.values("pk"), tenant=self.tenant)

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([incident_row(row) for row in rows or ()])

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(incident_row(self.found(self.get_queryset())))

    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        row = self.found(self.get_queryset())
        wanted = self.wanted(**_RESOLUTION)
        services.resolve(row, wanted.pop("action", ""), by=request.user, **wanted)
        row.refresh_from_db()
        return Response(incident_row(row))

    @action(detail=False)
    def causes(self, request: Request) -> Response:
        """Open incidents by cause, the most frequent first; at most 500."""
        rows: Any = self.filter_queryset(self.get_queryset())
        return Response(list(rows.open().by_cause()[:500]))

    @action(detail=False, methods=["post"], url_path="resolve")
    def resolve_all(self, request: Request) -> Response:
        """The same with every open incident of one ``fingerprint``; ``refused`` tells what was left, and why."""
        wanted = self.wanted(fingerprint=str, limit=int, dry_run=bool, **_RESOLUTION)
        fingerprint, act = wanted.pop("fingerprint", ""), wanted.pop("action", "")
        report = services.resolve_all(fingerprint, act, by=request.user, tenant=self.tenant, **wanted)
        refused = [{"id": key, "message": why} for key, why in report.refused]
        return Response({"found": report.found, "done": report.done, "refused": refused})
