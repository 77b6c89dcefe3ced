"""Filters of the lists; several values of one filter are separated by commas."""

from __future__ import annotations

from typing import Any

import django_filters as filters

from django_workflows.engine import clock
from django_workflows.models import HumanTask, Incident, WorkflowDefinition, WorkflowInstance
from django_workflows.states import DefinitionStatus, IncidentStatus, InstanceStatus, TaskStatus


class AnyOf(filters.BaseInFilter, filters.ChoiceFilter):
    """One or several of the choices."""


class DefinitionFilter(filters.FilterSet):
    name = filters.CharFilter()
    status = AnyOf(choices=DefinitionStatus.choices)
    tag = filters.CharFilter(method="with_tag")
    active_only = filters.BooleanFilter(method="only_active")

    class Meta:
        model = WorkflowDefinition
        fields = ("name", "status", "tag", "active_only")

    def with_tag(self, queryset: Any, name: str, value: str) -> Any:
        """Tags are a short list in a JSON column, which SQLite cannot look into by ``contains``."""
        return queryset.filter(tags__icontains=f'"{value}"')

    def only_active(self, queryset: Any, name: str, value: bool) -> Any:
        return queryset.filter(status=DefinitionStatus.PUBLISHED) if value else queryset


class InstanceFilter(filters.FilterSet):
    workflow = filters.CharFilter()
    version = filters.CharFilter(field_name="definition__version")
    status = AnyOf(choices=InstanceStatus.choices)
    outcome = filters.CharFilter()
    business_key = filters.CharFilter()
    initiator = filters.CharFilter(field_name="initiator_name")
    started_after = filters.IsoDateTimeFilter(field_name="started_at", lookup_expr="gte")
    started_before = filters.IsoDateTimeFilter(field_name="started_at", lookup_expr="lt")
    has_incident = filters.BooleanFilter(method="with_incident")
    search = filters.CharFilter(method="containing")

    class Meta:
        model = WorkflowInstance
        fields = ("workflow", "status", "outcome", "business_key")

    def with_incident(self, queryset: Any, name: str, value: bool) -> Any:
        found = queryset.with_open_incidents()
        return found if value else queryset.exclude(pk__in=found.values("pk"))

    def containing(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.search(value)


class HumanTaskFilter(filters.FilterSet):
    status = AnyOf(choices=TaskStatus.choices)
    workflow = filters.CharFilter(field_name="instance__workflow")
    instance = filters.UUIDFilter(field_name="instance")
    step = filters.CharFilter()
    assignee = filters.CharFilter(field_name="assignee_name")
    group = filters.CharFilter(method="of_group")
    overdue = filters.BooleanFilter(method="only_overdue")
    due_after = filters.IsoDateTimeFilter(field_name="due_at", lookup_expr="gte")
    due_before = filters.IsoDateTimeFilter(field_name="due_at", lookup_expr="lt")

    class Meta:
        model = HumanTask
        fields = ("status", "step")

    def of_group(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(candidates__group__name=value, candidates__kind="candidate")

    def only_overdue(self, queryset: Any, name: str, value: bool) -> Any:
        return queryset.overdue(now=clock.now()) if value else queryset


class IncidentFilter(filters.FilterSet):
    status = AnyOf(choices=IncidentStatus.choices)
    workflow = filters.CharFilter(field_name="instance__workflow")
    instance = filters.UUIDFilter(field_name="instance")
    step = filters.CharFilter()
    kind = filters.CharFilter()
    fingerprint = filters.CharFilter()

    class Meta:
        model = Incident
        fields = ("status", "step", "kind", "fingerprint")
