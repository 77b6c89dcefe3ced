"""What happens at moments that Django announces."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate

from django_workflows.engine.database import alias
from django_workflows.engine.executors import executor
from django_workflows.services import mirror


def connect() -> None:
    post_migrate.connect(
        mirror_definitions,
        sender=apps.get_app_config("django_workflows"),
        dispatch_uid="django_workflows.mirror",
    )


def mirror_definitions(sender: AppConfig, using: str, plan: Any = (), **kwargs: Any) -> None:
    """After ``migrate`` the registered workflow classes have their rows, and the queue its schedule."""
    undone = any(migration.app_label == "django_workflows" and backwards for migration, backwards in plan)
    if using == alias() and not undone:
        mirror()
        executor().install()
