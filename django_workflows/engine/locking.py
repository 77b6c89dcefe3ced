"""One lock: that of the instance row, taken before anything else of the instance is read.

On SQLite the transaction itself is the lock (``transaction_mode`` ``IMMEDIATE``, see the system check).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections

from django_workflows.exceptions import NotFound
from django_workflows.models import WorkflowInstance
from django_workflows.models.instances import InstanceQuerySet

from .clock import DatabaseClock
from .database import alias
from .prepared import Prepared


def locked(*, skip: bool = False) -> InstanceQuerySet:
    """Instances, each to be locked as it is read; ``skip`` passes over those that somebody else holds."""
    skip = skip and connections[alias()].features.has_select_for_update_skip_locked
    rows = WorkflowInstance.objects.using(alias()).select_for_update(of=("self",), skip_locked=skip)
    return rows.annotate(db_now=DatabaseClock())


def uuid_of(key: Any) -> UUID | None:
    """The key as a UUID; ``None`` for what is none."""
    if isinstance(key, UUID):
        return key
    try:
        return UUID(str(key))
    except ValueError:
        return None


_BY_KEY = Prepared(lambda key: locked().filter(pk=key).order_by(), key=lambda: WorkflowInstance._meta.pk)


def lock(instance_id: Any) -> WorkflowInstance:
    """Lock and load one instance; raises ``NotFound``. Must run inside a transaction."""
    key = uuid_of(instance_id)
    row = None if key is None else _BY_KEY.first(key=key)
    if row is None:
        raise NotFound(f"There is no instance {instance_id}.", instance_id=str(instance_id))
    return row
