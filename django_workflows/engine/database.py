"""Where the engine writes."""

from __future__ import annotations

from django.db import router

from django_workflows.models import WorkflowInstance


def alias() -> str:
    """The database that the engine writes to."""
    return router.db_for_write(WorkflowInstance)
