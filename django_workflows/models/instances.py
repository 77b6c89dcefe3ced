"""Instances and their step executions."""

from __future__ import annotations

import uuid
from contextlib import suppress

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import INSTANCE_ENDED, INSTANCE_MOVES, InstanceStatus, StepStatus, allowed_verbs

from .definitions import WorkflowDefinition
from .keys import new_id

ENDED = tuple(sorted(INSTANCE_ENDED))


class InstanceQuerySet(models.QuerySet["WorkflowInstance"]):
    def running(self) -> InstanceQuerySet:
        """Those that have not ended."""
        return self.exclude(status__in=ENDED)

    def of(self, workflow: str) -> InstanceQuerySet:
        return self.filter(workflow=workflow)

    def for_subject(self, subject: models.Model) -> InstanceQuerySet:
        """Those about a row of any model."""
        kind = ContentType.objects.get_for_model(subject)
        return self.filter(subject_type=kind, subject_id=str(subject.pk))

    def with_open_incidents(self) -> InstanceQuerySet:
        from .incidents import Incident  # the module below refers to this one

        found = Incident.objects.open().filter(instance=models.OuterRef("pk"))
        return self.filter(models.Exists(found))

    def search(self, text: str) -> InstanceQuerySet:
        """Those whose title, business key, workflow or id contains the text."""
        found = Q(title__icontains=text) | Q(business_key__icontains=text) | Q(workflow__icontains=text)
        with suppress(ValueError):
            found |= Q(pk=uuid.UUID(text))
        return self.filter(found)


class WorkflowInstance(models.Model):
    """One run. ``state`` is the token state, from which it is continued without reading its history.

    ``sequence`` is the number of the last event, and so the revision of the row.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    definition = models.ForeignKey(WorkflowDefinition, on_delete=models.PROTECT, related_name="instances")
    workflow = models.CharField(max_length=100)
    title = models.CharField(max_length=200, blank=True, default="")
    business_key = models.CharField(max_length=200, blank=True, default="")
    idempotency_key = models.CharField(max_length=200, blank=True, default="")
    status = models.CharField(max_length=10, choices=InstanceStatus.choices, default=InstanceStatus.PENDING)
    outcome = models.CharField(max_length=64, blank=True, default="")
    data = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)
    results = models.JSONField(default=dict)
    output = models.JSONField(default=dict)
    state = models.JSONField(default=dict)
    sequence = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, default="")
    error_type = models.CharField(max_length=200, blank=True, default="")
    subject_type = models.ForeignKey(ContentType, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    subject_id = models.CharField(max_length=64, blank=True, default="")
    subject = GenericForeignKey("subject_type", "subject_id")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    initiator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="workflow_instances",
    )
    initiator_name = models.CharField(max_length=150)
    started_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    legal_hold = models.BooleanField(default=False)
    is_durable = models.BooleanField(default=True)
    worker = models.CharField(max_length=100, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()

    objects = InstanceQuerySet.as_manager()

    class Meta:
        verbose_name = _("workflow instance")
        verbose_name_plural = _("workflow instances")
        ordering = ("-started_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=("tenant", "workflow", "business_key"),
                condition=~Q(business_key=""),
                name="wf_instance_unique_business_key",
            ),
            models.UniqueConstraint(
                fields=("tenant", "workflow", "idempotency_key"),
                condition=~Q(idempotency_key=""),
                name="wf_instance_unique_idempotency_key",
            ),
            models.CheckConstraint(condition=Q(status__in=InstanceStatus.values), name="wf_instance_known_status"),
            models.CheckConstraint(
                condition=Q(status__in=ENDED, completed_at__isnull=False)
                | (~Q(status__in=ENDED) & Q(completed_at__isnull=True)),
                name="wf_instance_ended_has_time",
            ),
            models.CheckConstraint(
                condition=Q(status=InstanceStatus.PAUSED, paused_at__isnull=False)
                | (~Q(status=InstanceStatus.PAUSED) & Q(paused_at__isnull=True)),
                name="wf_instance_paused_has_time",
            ),
        )
        indexes = (
            models.Index(fields=("-started_at", "-id"), name="wf_instance_newest"),
            models.Index(fields=("workflow", "status", "-started_at"), name="wf_instance_by_workflow"),
            models.Index(fields=("initiator", "-started_at"), name="wf_instance_by_initiator"),
            models.Index(
                fields=("subject_type", "subject_id"),
                name="wf_instance_by_subject",
                condition=Q(subject_type__isnull=False),
            ),
            models.Index(
                fields=("updated_at",),
                name="wf_instance_live",
                condition=~Q(status__in=ENDED),
            ),
            models.Index(
                fields=("definition", "completed_at"),
                name="wf_instance_by_end",
                condition=Q(status__in=ENDED, legal_hold=False),
            ),
            models.Index(
                fields=("updated_at",),
                name="wf_instance_transient",
                condition=~Q(status__in=ENDED) & Q(is_durable=False),
            ),
        )

    def __str__(self) -> str:
        return self.title or self.business_key or f"{self.workflow} {str(self.pk)[:8]}"

    @property
    def about(self) -> models.Model | None:
        """The row that the instance is about; ``None`` also where that, or its model, is gone."""
        if self.subject_type_id is None or self.subject_type is None or self.subject_type.model_class() is None:
            return None
        found: models.Model | None = self.subject
        return found

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that its state leaves, whoever asks; sorted."""
        closed = {"pause", "resume"} if self.cancel_requested_at is not None else set()
        closed |= set() if self.is_durable else {"pause"}
        found = allowed_verbs(INSTANCE_MOVES, InstanceStatus(self.status))
        return tuple(verb for verb in found if verb not in closed)

    @property
    def is_ended(self) -> bool:
        return self.status in INSTANCE_ENDED

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; ``None`` while it is not over."""
        return (self.completed_at - self.started_at).total_seconds() if self.completed_at else None


class StepExecutionQuerySet(models.QuerySet["StepExecution"]):
    def open(self) -> StepExecutionQuerySet:
        return self.filter(status__in=OPEN_STEPS)


OPEN_STEPS = (
    StepStatus.PENDING,
    StepStatus.SCHEDULED,
    StepStatus.RUNNING,
    StepStatus.WAITING,
    StepStatus.FAILED,
)


class StepExecution(models.Model):
    """One passage through a step. ``attempt`` counts from 1; ``lease_until`` is database time;
    ``interruptions`` counts the workers it has lost."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    instance = models.ForeignKey(
        WorkflowInstance, on_delete=models.CASCADE, related_name="step_executions", db_index=False
    )
    tenant = models.CharField(max_length=64, blank=True, default="")
    step = models.CharField(max_length=63)
    step_type = models.CharField(max_length=40)
    occurrence = models.PositiveIntegerField(default=1)
    index = models.PositiveIntegerField()
    status = models.CharField(max_length=10, choices=StepStatus.choices, default=StepStatus.PENDING)
    outcome = models.CharField(max_length=64, blank=True, default="")
    input = models.JSONField(null=True, blank=True)
    output = models.JSONField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=1)
    interruptions = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    error_type = models.CharField(max_length=200, blank=True, default="")
    traceback = models.TextField(blank=True, default="")
    progress = models.JSONField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    assigned_to_name = models.CharField(max_length=150, blank=True, default="")
    completed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    completed_by_name = models.CharField(max_length=150, blank=True, default="")
    scheduled_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    duration = models.FloatField(null=True, blank=True)

    objects = StepExecutionQuerySet.as_manager()

    class Meta:
        verbose_name = _("step execution")
        verbose_name_plural = _("step executions")
        ordering = ("instance", "index")
        constraints = (
            models.UniqueConstraint(
                fields=("instance", "step", "occurrence"), name="wf_step_execution_unique_occurrence"
            ),
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="wf_step_execution_known_status"),
            models.CheckConstraint(condition=Q(attempt__gte=1), name="wf_step_execution_attempt_from_one"),
        )
        indexes = (
            models.Index(
                fields=("scheduled_at",),
                name="wf_step_execution_scheduled",
                condition=Q(status=StepStatus.SCHEDULED),
            ),
            models.Index(
                fields=("lease_until",),
                name="wf_step_execution_leased",
                condition=Q(status=StepStatus.RUNNING),
            ),
        )

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        return f"{self.step}#{self.occurrence}"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STEPS
