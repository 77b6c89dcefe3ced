"""Rows written with as few statements as there are tables, and little else.

The ORM builds its SQL anew each time, which costs more than running it. On the hot path the text of
a statement is made once per database; values go through the fields as ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections, models

from .database import alias

Converter = Callable[[Any], Any]


def insert(model: type[models.Model], rows: Sequence[Any]) -> None:
    """One statement for all rows (none for no rows), as far as the database takes so many values."""
    insert_values(model, _values(model, rows))


def upsert(model: type[models.Model], rows: Sequence[Any], fields: Sequence[str], keys: Sequence[str]) -> None:
    """Insert the rows that are new; of those known by ``keys`` set only ``fields`` (column names)."""
    quote = connections[alias()].ops.quote_name
    target = ", ".join(quote(key) for key in keys)
    changes = ", ".join(f"{quote(field)} = EXCLUDED.{quote(field)}" for field in fields)
    insert_values(model, _values(model, rows), f" ON CONFLICT ({target}) DO UPDATE SET {changes}")


def _values(model: type[models.Model], rows: Sequence[Any]) -> list[list[Any]]:
    names = columns_of(model)
    return [[getattr(row, name) for name in names] for row in rows]


@lru_cache(maxsize=128)
def columns_of(model: type[models.Model]) -> tuple[str, ...]:
    """The columns of a model, in the order in which ``insert_values`` wants them."""
    return tuple(field.attname for field in model._meta.concrete_fields)


def insert_values(model: type[models.Model], rows: Sequence[Sequence[Any]], suffix: str = "") -> None:
    """The same for rows that are no objects: their values in the order of ``columns_of``."""
    using = alias()
    head, one, converters = _insertion(model, using)
    size = _most_values(using) // len(converters)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        values = [convert(value) for row in some for convert, value in zip(converters, row, strict=True)]
        _run(head + ", ".join([one] * len(some)) + suffix, values, using)


def update(row: models.Model, fields: Sequence[str]) -> None:
    """Set some fields of one row to what the object says."""
    update_where(type(row), {name: getattr(row, name) for name in fields}, {row._meta.pk.attname: row.pk})


def update_where(model: type[models.Model], values: Mapping[str, Any], where: Mapping[str, Any]) -> None:
    """Set columns of the rows whose columns equal ``where`` (a list means any of it)."""
    using = alias()
    quote = connections[using].ops.quote_name
    convert = _converters(model, using)
    params = [convert[name](value) for name, value in values.items()]
    conditions = []
    for name, value in where.items():
        wanted = value if isinstance(value, list) else [value]
        conditions.append(f"{quote(name)} IN ({', '.join(['%s'] * len(wanted))})")
        params += [convert[name](item) for item in wanted]
    changes = ", ".join(f"{quote(name)} = %s" for name in values)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {changes} WHERE {' AND '.join(conditions)}"  # noqa: S608 - names of our own columns
    _run(sql, params, using)


_waiting: ContextVar[list[tuple[str, list[Any]]] | None] = ContextVar("django_workflows_statements", default=None)


@contextmanager
def together() -> Iterator[None]:
    """Send what is written in this block to the database in one go, at its end.

    PostgreSQL takes several statements at once, as long as psycopg merges the values into them (Django's
    default); elsewhere each goes by itself, and at once.
    """
    using = alias()
    if not _takes_several(using):
        yield
        return
    statements: list[tuple[str, list[Any]]] = []
    token = _waiting.set(statements)
    try:
        yield
    finally:
        _waiting.reset(token)
    if statements:
        merged = "; ".join(_merged(sql, values, using) for sql, values in statements)
        with connections[using].cursor() as cursor:
            cursor.execute(merged, None)


def _merged(sql: str, values: list[Any], using: str) -> str:
    """The statement with its values as literals, quoted by psycopg; it need not look for placeholders again."""
    from psycopg.adapt import Transformer  # only where PostgreSQL is

    quote = Transformer.from_context(connections[using].connection).as_literal
    pieces = sql.split("%s")
    literals = [bytes(quote(value)).decode() for value in values]
    return "".join(text + literal for text, literal in zip(pieces, [*literals, ""], strict=True))


def _takes_several(using: str) -> bool:
    connection = connections[using]
    by_server = connection.settings_dict.get("OPTIONS", {}).get("server_side_binding", False)
    return connection.vendor == "postgresql" and not by_server


def _run(sql: str, params: list[Any], using: str) -> None:
    statements = _waiting.get()
    if statements is not None:
        statements.append((sql, params))
        return
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)


@lru_cache(maxsize=128)
def _insertion(model: type[models.Model], using: str) -> tuple[str, str, list[Converter]]:
    quote = connections[using].ops.quote_name
    fields = model._meta.concrete_fields
    names = ", ".join(quote(str(field.column)) for field in fields)
    head = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES "  # noqa: S608 - names of our own columns
    return head, f"({', '.join(['%s'] * len(fields))})", list(_converters(model, using).values())


@lru_cache(maxsize=128)
def _converters(model: type[models.Model], using: str) -> dict[str, Converter]:
    """Column -> what turns its Python value into the database's."""
    return {field.attname: _converter(field, using) for field in model._meta.concrete_fields}


def _converter(field: Any, using: str) -> Converter:
    connection = connections[using]
    is_sqlite = connection.vendor == "sqlite"
    target = field.target_field if field.is_relation else field
    if isinstance(field, models.JSONField):
        return _json_text if is_sqlite else _jsonb
    if isinstance(target, models.UUIDField):
        return _hex if is_sqlite else _uuid
    if isinstance(field, models.DateTimeField):
        return connection.ops.adapt_datetimefield_value if is_sqlite else _same
    if isinstance(field, (models.CharField, models.TextField)):
        return _plain_text
    if isinstance(field, (models.IntegerField, models.FloatField, models.BooleanField)):
        return _same
    return lambda value: field.get_db_prep_save(value, connection)


def _same(value: Any) -> Any:
    return value


def _plain_text(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _json_text(value: Any) -> Any:
    return None if value is None else json.dumps(value)


def _jsonb(value: Any) -> Any:
    from psycopg.types.json import Jsonb  # whoever runs on SQLite needs no psycopg

    return None if value is None else Jsonb(value)


def _hex(value: Any) -> Any:
    return value.hex if isinstance(value, UUID) else None if value is None else UUID(value).hex


def _uuid(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) else value


def _most_values(using: str) -> int:
    return connections[using].features.max_query_params or 30_000
