"""The only agenda."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import InstanceStatus, TimerStatus

from .instances import StepExecution, WorkflowInstance
from .keys import new_id


class TimerQuerySet(models.QuerySet["Timer"]):
    def due(self, *, now: Any) -> TimerQuerySet:
        """Open timers whose moment has come, of instances that are not paused, in order.

        ``now`` is a time, or an expression for the database's.
        """
        waiting = self.filter(status=TimerStatus.OPEN, due_at__lte=now)
        return waiting.exclude(instance__status=InstanceStatus.PAUSED).order_by("due_at", "id")


class Timer(models.Model):
    """Something that happens at a moment to a step execution (``due``, ``remind:0``, ``sleep``, ``retry``),
    or to the instance as a whole (``max_duration``), which then has no ``execution``."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    instance = models.ForeignKey(WorkflowInstance, on_delete=models.CASCADE, related_name="timers")
    execution = models.ForeignKey(StepExecution, null=True, on_delete=models.CASCADE, related_name="timers")
    step = models.CharField(max_length=63, blank=True, default="")
    occurrence = models.PositiveIntegerField(default=1)
    name = models.CharField(max_length=40)
    due_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=TimerStatus.choices, default=TimerStatus.OPEN)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = TimerQuerySet.as_manager()

    class Meta:
        verbose_name = _("timer")
        verbose_name_plural = _("timers")
        ordering = ("due_at", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("execution", "name"),
                condition=Q(status=TimerStatus.OPEN),
                name="wf_timer_one_open_per_name",
            ),
            models.UniqueConstraint(
                fields=("instance", "name"),
                condition=Q(status=TimerStatus.OPEN, execution__isnull=True),
                name="wf_timer_one_open_per_instance",
            ),
            models.CheckConstraint(condition=Q(status__in=TimerStatus.values), name="wf_timer_known_status"),
        )
        indexes = (models.Index(fields=("due_at", "id"), name="wf_timer_agenda", condition=Q(status=TimerStatus.OPEN)),)

    def __str__(self) -> str:
        return f"{self.name} of {self.key or 'the instance'}"

    @property
    def key(self) -> str:
        """The step execution it concerns; empty for the instance as a whole."""
        return f"{self.step}#{self.occurrence}" if self.step else ""
