"""Writing rows with as few statements as there are tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Model

from .locking import alias


def insert(model: type[Model], rows: Sequence[Any]) -> None:
    """One statement for all rows (none for no rows)."""
    if rows:
        model._default_manager.using(alias()).bulk_create(rows)


def upsert(model: type[Model], rows: Sequence[Any], fields: Sequence[str]) -> None:
    """Insert the rows that are new; of the others (by instance, step and occurrence) set ``fields``."""
    model._default_manager.using(alias()).bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=("instance", "step", "occurrence"),
        update_fields=[field.removesuffix("_id") for field in fields],
    )


def update(row: Model, fields: Sequence[str]) -> None:
    row.save(using=alias(), force_update=True, update_fields=fields)
