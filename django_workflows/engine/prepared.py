"""Queries of the hot path whose SQL is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self._compiled: dict[str, _Compiled[M]] = {}

    def rows(self, **values: Any) -> list[M]:
        """The rows for these values, annotations included."""
        using = alias()
        connection = connections[using]
        if using not in self._compiled:
            self._compiled[using] = self._compile(using)
        found = self._compiled[using]
        ready = {
            name: field().get_db_prep_value(values[name], connection, prepared=False)
            for name, field in self._fields.items()
        }
        with connection.cursor() as cursor:
            cursor.execute(found.sql, [ready[name] if name else constant for name, constant in found.places])
            rows = cursor.fetchall()
        return [found.made(row, using) for row in rows]

    def first(self, **values: Any) -> M | None:
        rows = self.rows(**values)
        return rows[0] if rows else None

    def _compile(self, using: str) -> _Compiled[M]:
        connection = connections[using]
        marks = {name: _mark(field()) for name, field in self._fields.items()}
        queryset = self._build(**marks)
        ready = {
            field().get_db_prep_value(marks[name], connection, prepared=False): name
            for name, field in self._fields.items()
        }
        compiler = queryset.query.get_compiler(using)
        sql, params = compiler.as_sql()
        places = [(ready.get(param, "") if _hashable(param) else "", param) for param in params]
        return _Compiled(queryset.model, sql, places, compiler)


class _Compiled(Generic[M]):
    """The text of a statement, and how its columns become a row of the model."""

    def __init__(self, model: type[M], sql: str, places: list[tuple[str, Any]], compiler: Any) -> None:
        self.model, self.sql, self.places = model, sql, places
        columns = compiler.klass_info["select_fields"]
        self._first, self._last = columns[0], columns[-1] + 1
        self._names = [compiler.select[at][0].target.attname for at in columns]
        self._annotations: dict[str, int] = compiler.annotation_col_map or {}
        expressions = [column[0] for column in compiler.select]
        self._converters: list[tuple[int, list[Any], Any]] = [
            (at, convert, expression) for at, (convert, expression) in compiler.get_converters(expressions).items()
        ]

    def made(self, values: Sequence[Any], using: str) -> M:
        """The row as the ORM would have made it."""
        ready = list(values)
        for at, converters, expression in self._converters:
            for convert in converters:
                ready[at] = convert(ready[at], expression, connections[using])
        row = self.model.from_db(using, self._names, ready[self._first : self._last])
        for name, at in self._annotations.items():
            setattr(row, name, ready[at])
        return row


def _mark(field: Any) -> Any:
    target = field.target_field if field.is_relation else field
    if isinstance(target, models.UUIDField):
        return _UUID_MARK
    return _INT_MARK if isinstance(target, models.IntegerField) else _TEXT_MARK + target.name


def _hashable(value: Any) -> bool:
    return isinstance(value, (str, int, UUID))
