"""The history."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import EventName

from .definitions import WorkflowDefinition
from .instances import WorkflowInstance
from .keys import new_id


class EventQuerySet(models.QuerySet["WorkflowEvent"]):
    def of(self, instance: Any) -> EventQuerySet:
        """The history of an instance, in order; ``instance`` is the row or its key."""
        return self.filter(instance=instance).order_by("sequence")

    def after(self, sequence: int) -> EventQuerySet:
        return self.filter(sequence__gt=sequence)


class WorkflowEvent(models.Model):
    """A line of the history; append-only, numbered from 1 without gaps within its instance."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    instance = models.ForeignKey(
        WorkflowInstance, null=True, on_delete=models.CASCADE, related_name="events", db_index=False
    )
    definition = models.ForeignKey(WorkflowDefinition, null=True, on_delete=models.PROTECT, related_name="events")
    sequence = models.PositiveIntegerField()
    name = models.CharField(max_length=40, choices=[(name.value, name.value) for name in EventName])
    at = models.DateTimeField()
    step = models.CharField(max_length=63, blank=True, default="")
    occurrence = models.PositiveIntegerField(default=0)
    step_index = models.PositiveIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    outcome = models.CharField(max_length=64, blank=True, default="")
    duration = models.FloatField(null=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    actor_name = models.CharField(max_length=150)
    on_behalf_of_name = models.CharField(max_length=150, blank=True, default="")
    payload = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("workflow event")
        verbose_name_plural = _("workflow events")
        ordering = ("instance", "sequence")
        constraints = (
            models.UniqueConstraint(fields=("instance", "sequence"), name="wf_event_unique_sequence"),
            models.CheckConstraint(
                condition=Q(instance__isnull=False) | Q(definition__isnull=False), name="wf_event_has_subject"
            ),
        )

    def __str__(self) -> str:
        return f"{self.sequence} {self.name}"

    @property
    def key(self) -> str:
        return f"{self.step}#{self.occurrence}" if self.step else ""
