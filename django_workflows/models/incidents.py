"""What a person must look at."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Count, F, Max, Min, Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import IncidentStatus

from .instances import StepExecution, WorkflowInstance
from .keys import new_id


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> IncidentQuerySet:
        return self.filter(status=IncidentStatus.OPEN)

    def by_cause(self) -> models.QuerySet[Incident, dict[str, Any]]:
        """One dict per fingerprint, the most frequent first: what it is, ``open`` (how many), since when."""
        alike = ("fingerprint", "step", "kind", "error_type")
        found: models.QuerySet[Incident, dict[str, Any]] = (
            self.order_by()
            .values(*alike, workflow=F("instance__workflow"))
            .annotate(
                open=Count("pk"),
                message=Max("message"),
                suggested_action=Max("suggested_action"),
                first_at=Min("first_at"),
                last_at=Max("last_at"),
            )
            .order_by("-open", "fingerprint")
        )
        return found


class Incident(models.Model):
    """A cause, counted; ``fingerprint`` is equal for incidents with the same cause in the same step."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    instance = models.ForeignKey(WorkflowInstance, on_delete=models.CASCADE, related_name="incidents")
    execution = models.ForeignKey(StepExecution, on_delete=models.CASCADE, related_name="incidents")
    step = models.CharField(max_length=63)
    kind = models.CharField(max_length=40)
    message = models.TextField()
    error_type = models.CharField(max_length=200, blank=True, default="")
    diagnostics = models.JSONField(default=dict)
    suggested_action = models.TextField()
    fingerprint = models.CharField(max_length=64, db_index=True)
    blocking = models.BooleanField(default=True)
    status = models.CharField(max_length=10, choices=IncidentStatus.choices, default=IncidentStatus.OPEN)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    resolved_by_name = models.CharField(max_length=150, blank=True, default="")
    resolution = models.CharField(max_length=100, blank=True, default="")

    objects = IncidentQuerySet.as_manager()

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ("-last_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=("execution", "kind"),
                name="wf_incident_one_per_kind",
            ),
            models.CheckConstraint(condition=Q(status__in=IncidentStatus.values), name="wf_incident_known_status"),
        )
        indexes = (
            models.Index(fields=("-last_at", "-id"), name="wf_incident_open", condition=Q(status=IncidentStatus.OPEN)),
        )

    def __str__(self) -> str:
        return f"{self.kind}: {self.message[:80]}"
