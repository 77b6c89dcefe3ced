"""Joins the rooms when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DjangoWorkflowsConfig(AppConfig):
    name = "django_workflows"
    verbose_name = _("Workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # these need the models, which are there only now
        from . import checks, receivers
        from .registry import autodiscover

        checks.register_all()
        receivers.connect()
        autodiscover()
