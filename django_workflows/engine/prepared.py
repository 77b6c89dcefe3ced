"""Queries of the hot path whose SQL is made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connections, models

from .database import alias

M = TypeVar("M", bound=models.Model)

_UUID_MARK = UUID("5e97d2c4-7e57-7000-8000-0123456789ab")
_INT_MARK = 1_987_654_321
_TEXT_MARK = "\x02marked\x03"


class Prepared(Generic[M]):
    """A query whose SQL is made once per database, from a queryset built with marks for its values.

    ``fields`` tells the field that each value belongs to; the value is converted by it.
    """

    def __init__(self, build: Callable[..., models.QuerySet[M]], **fields: Callable[[], Any]) -> None:
        self._build, self._fields = build, fields
        self._compiled: dict[str, tuple[str, list[tuple[str, Any]]]] = {}

    def rows(self, **values: Any) -> list[M]:
        """The rows for these values, annotations included."""
        using = alias()
        connection = connections[using]
        if using not in self._compiled:
            self._compiled[using] = self._compile(using)
        sql, places = self._compiled[using]
        ready = {
            name: field().get_db_prep_value(values[name], connection, prepared=False)
            for name, field in self._fields.items()
        }
        params = [ready[name] if name else constant for name, constant in places]
        found: Any = self._model._base_manager.using(using).raw(sql, params)
        return list(found)

    def first(self, **values: Any) -> M | None:
        rows = self.rows(**values)
        return rows[0] if rows else None

    def _compile(self, using: str) -> tuple[str, list[tuple[str, Any]]]:
        connection = connections[using]
        marks = {name: _mark(field()) for name, field in self._fields.items()}
        queryset = self._build(**marks)
        self._model = queryset.model
        ready = {
            field().get_db_prep_value(marks[name], connection, prepared=False): name
            for name, field in self._fields.items()
        }
        sql, params = queryset.query.get_compiler(using).as_sql()
        return sql, [(ready.get(param, "") if _hashable(param) else "", param) for param in params]


def _mark(field: Any) -> Any:
    target = field.target_field if field.is_relation else field
    if isinstance(target, models.UUIDField):
        return _UUID_MARK
    return _INT_MARK if isinstance(target, models.IntegerField) else _TEXT_MARK + target.name


def _hashable(value: Any) -> bool:
    return isinstance(value, (str, int, UUID))
