from __future__ import annotations

from django.apps import AppConfig


class ExpensesConfig(AppConfig):
    name = "example_project.expenses"
    label = "expenses"
    default_auto_field = "django.db.models.BigAutoField"
