"""Published drawings, one row per name and version."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_workflows.states import DefinitionStatus

from .keys import new_id


class DefinitionQuerySet(models.QuerySet["WorkflowDefinition"]):
    def startable(self, name: str) -> DefinitionQuerySet:
        """Active published versions of a name, the newest first."""
        return self.filter(name=name, status=DefinitionStatus.PUBLISHED).order_by("-version_key")

    def newest_first(self) -> DefinitionQuerySet:
        return self.order_by("name", "-version_key")


class WorkflowDefinition(models.Model):
    """One version of a workflow. A published one never changes; retired ones start nothing new."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.CharField(max_length=64, blank=True, default="")
    name = models.CharField(max_length=100)
    version = models.CharField(max_length=50)
    version_key = models.CharField(max_length=64, editable=False)
    title = models.CharField(max_length=200, blank=True, default="")
    description = models.TextField(blank=True, default="")
    tags = models.JSONField(default=list, blank=True)
    status = models.CharField(max_length=10, choices=DefinitionStatus.choices, default=DefinitionStatus.DRAFT)
    start = models.CharField(
        max_length=10, default="everyone", choices=(("everyone", _("Everyone")), ("granted", _("Who was granted it")))
    )
    is_code = models.BooleanField(default=False, help_text=_("Mirrors a workflow class of the project."))
    content = models.JSONField()
    content_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    published_by_name = models.CharField(max_length=150, blank=True, default="")

    objects = DefinitionQuerySet.as_manager()

    class Meta:
        verbose_name = _("workflow definition")
        verbose_name_plural = _("workflow definitions")
        ordering = ("name", "-version_key")
        permissions = (
            ("start_workflowdefinition", _("Can start instances")),
            ("view_instances_workflowdefinition", _("Can view all instances")),
            ("administer_workflowdefinition", _("Can administer instances")),
            ("publish_workflowdefinition", _("Can publish and retire")),
        )
        constraints = (
            models.UniqueConstraint(fields=("tenant", "name", "version"), name="wf_definition_unique_version"),
            models.CheckConstraint(condition=Q(status__in=DefinitionStatus.values), name="wf_definition_known_status"),
            models.CheckConstraint(
                condition=Q(status=DefinitionStatus.DRAFT) | Q(published_at__isnull=False),
                name="wf_definition_published_has_time",
            ),
        )
        indexes = (
            models.Index(
                fields=("name", "-version_key"),
                name="wf_definition_startable",
                condition=Q(status=DefinitionStatus.PUBLISHED),
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.version}"
