"""Object permissions on definitions, in tables of their own: the rows go with the definition."""

from __future__ import annotations

from django.db import models
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from .definitions import WorkflowDefinition


class WorkflowDefinitionUserObjectPermission(UserObjectPermissionBase):
    content_object = models.ForeignKey(WorkflowDefinition, on_delete=models.CASCADE)


class WorkflowDefinitionGroupObjectPermission(GroupObjectPermissionBase):
    content_object = models.ForeignKey(WorkflowDefinition, on_delete=models.CASCADE)
