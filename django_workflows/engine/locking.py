"""One lock: that of the instance row, taken before anything else of the instance is read.

On SQLite the transaction itself is the lock (``transaction_mode`` ``IMMEDIATE``, see the system check).
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections, router

from django_workflows.exceptions import NotFound
from django_workflows.models import WorkflowInstance
from django_workflows.models.instances import InstanceQuerySet


def alias() -> str:
    """The database that the engine writes to."""
    return router.db_for_write(WorkflowInstance)


def locked(*, skip: bool = False) -> InstanceQuerySet:
    """Instances, each to be locked as it is read; ``skip`` passes over those that somebody else holds."""
    skip = skip and connections[alias()].features.has_select_for_update_skip_locked
    return WorkflowInstance.objects.using(alias()).select_for_update(of=("self",), skip_locked=skip)


def lock(instance_id: Any) -> WorkflowInstance:
    """Lock and load one instance; raises ``NotFound``. Must run inside a transaction."""
    try:
        row = locked().filter(pk=instance_id).first()
    except (ValidationError, ValueError):
        row = None
    if row is None:
        raise NotFound(f"There is no instance {instance_id}.", instance_id=str(instance_id))
    return row
