"""Questions put to people, who may answer them, and the answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import TASK_OPEN, TaskStatus

from .instances import StepExecution, WorkflowInstance
from .keys import new_id

OPEN = tuple(sorted(TASK_OPEN))


class HumanTaskQuerySet(models.QuerySet["HumanTask"]):
    def open(self) -> HumanTaskQuerySet:
        return self.filter(status__in=OPEN)

    def overdue(self, *, now: datetime) -> HumanTaskQuerySet:
        return self.open().filter(due_at__lt=now)

    def assigned_to(self, user: Any) -> HumanTaskQuerySet:
        """Those that only this user may decide: claimed, or given to nobody else."""
        return self.filter(assignee=user)

    def for_group(self, group: Group) -> HumanTaskQuerySet:
        return self.filter(pk__in=TaskCandidate.objects.filter(group=group, kind=CANDIDATE).values("task"))

    def inbox(self, user: Any) -> HumanTaskQuerySet:
        """Open tasks the user may decide, by due date (none last), then age."""
        mine = TaskCandidate.objects.filter(is_open=True, kind=CANDIDATE)
        by_user = mine.filter(user=user).values("task")
        by_group = mine.filter(group__in=user.groups.all()).values("task")
        excluded = TaskCandidate.objects.filter(task=OuterRef("pk"), kind=EXCLUDED, user=user)
        return (
            self.open()
            .filter(Q(pk__in=by_user) | Q(pk__in=by_group))
            .filter(Q(assignee__isnull=True) | Q(assignee=user))
            .exclude(Exists(excluded))
            .order_by(models.F("due_at").asc(nulls_last=True), "created_at", "pk")
        )


class HumanTask(models.Model):
    """A question put to people; the form and the policy stand in the definition."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    instance = models.ForeignKey(WorkflowInstance, on_delete=models.CASCADE, related_name="human_tasks", db_index=False)
    execution = models.OneToOneField(StepExecution, on_delete=models.CASCADE, related_name="human_task")
    step = models.CharField(max_length=63)
    occurrence = models.PositiveIntegerField(default=1)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    status = models.CharField(max_length=10, choices=TaskStatus.choices, default=TaskStatus.OPEN)
    outcome = models.CharField(max_length=64, blank=True, default="")
    priority = models.SmallIntegerField(default=0)
    electorate = models.PositiveIntegerField(default=0)
    resolution = models.JSONField(default=dict)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="workflow_tasks",
    )
    assignee_name = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, blank=True)
    reminded_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    completed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    completed_by_name = models.CharField(max_length=150, blank=True, default="")

    objects = HumanTaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("human task")
        verbose_name_plural = _("human tasks")
        ordering = ("-created_at", "-id")
        constraints = (
            models.CheckConstraint(condition=Q(status__in=TaskStatus.values), name="wf_human_task_known_status"),
            models.CheckConstraint(
                condition=~Q(status=TaskStatus.COMPLETED) | ~Q(outcome=""),
                name="wf_human_task_completed_has_outcome",
            ),
            models.CheckConstraint(
                condition=Q(status__in=OPEN, completed_at__isnull=True)
                | (~Q(status__in=OPEN) & Q(completed_at__isnull=False)),
                name="wf_human_task_closed_has_time",
            ),
        )
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="wf_human_task_newest"),
            models.Index(fields=("instance", "created_at"), name="wf_human_task_of_instance"),
            models.Index(fields=("due_at",), name="wf_human_task_due", condition=Q(status__in=OPEN)),
            models.Index(fields=("assignee", "due_at"), name="wf_human_task_assigned", condition=Q(status__in=OPEN)),
        )

    def __str__(self) -> str:
        return self.title

    @property
    def key(self) -> str:
        return f"{self.step}#{self.occurrence}"

    @property
    def is_open(self) -> bool:
        return self.status in TASK_OPEN


CANDIDATE, EXCLUDED = "candidate", "excluded"


class TaskCandidate(models.Model):
    """Who may decide a task, or may not although a candidate. What the inbox reads."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey(HumanTask, on_delete=models.CASCADE, related_name="candidates")
    kind = models.CharField(
        max_length=10, default=CANDIDATE, choices=((CANDIDATE, _("Candidate")), (EXCLUDED, _("Excluded")))
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    group = models.ForeignKey(Group, null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    is_open = models.BooleanField(default=True)
    due_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(user__isnull=True, group__isnull=False) | Q(user__isnull=False, group__isnull=True),
                name="wf_candidate_user_or_group",
            ),
            models.UniqueConstraint(
                fields=("task", "user", "kind"),
                condition=Q(user__isnull=False),
                name="wf_candidate_unique_user",
            ),
            models.UniqueConstraint(
                fields=("task", "group", "kind"),
                condition=Q(group__isnull=False),
                name="wf_candidate_unique_group",
            ),
        )
        indexes = (
            models.Index(
                fields=("user", "due_at", "task"),
                name="wf_candidate_open_user",
                condition=Q(is_open=True, user__isnull=False),
            ),
            models.Index(
                fields=("group", "due_at", "task"),
                name="wf_candidate_open_group",
                condition=Q(is_open=True, group__isnull=False),
            ),
            models.Index(fields=("user", "task"), name="wf_candidate_user", condition=Q(user__isnull=False)),
            models.Index(fields=("group", "task"), name="wf_candidate_group", condition=Q(group__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.user_id or self.group_id} of {self.task_id}"


class Decision(models.Model):
    """One person's answer; a row is never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    task = models.ForeignKey(HumanTask, on_delete=models.CASCADE, related_name="decisions")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="workflow_decisions",
    )
    actor_name = models.CharField(max_length=150)
    on_behalf_of_name = models.CharField(max_length=150, blank=True, default="")
    outcome = models.CharField(max_length=64)
    comment = models.TextField(blank=True, default="")
    form = models.JSONField(default=dict)
    decided_at = models.DateTimeField()

    class Meta:
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ("decided_at", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("task", "actor"), condition=Q(actor__isnull=False), name="wf_decision_one_per_actor"
            ),
            models.CheckConstraint(condition=~Q(outcome=""), name="wf_decision_has_outcome"),
        )

    def __str__(self) -> str:
        return f"{self.actor_name}: {self.outcome}"
