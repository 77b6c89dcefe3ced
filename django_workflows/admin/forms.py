"""A form's JSON Schema as HTML fields, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from django_workflows.core.forms import properties_of

#: What the names of form fields begin with, so that they meet no other field of the page.
PREFIX = "field-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as the template draws it; ``kind`` is ``text``, ``number``, ``date``, ``checkbox``,
    ``select`` or ``textarea``."""

    name: str
    label: str
    kind: str
    value: Any
    help: str
    is_required: bool
    errors: Sequence[str]
    choices: Sequence[tuple[str, str, bool]]
    minimum: Any
    maximum: Any
    step: str
    length: Any

    @property
    def id(self) -> str:
        return f"id_{PREFIX}{self.name}"

    @property
    def key(self) -> str:
        return PREFIX + self.name


def fields_of(schema: Mapping[str, Any], values: Mapping[str, Any], errors: Mapping[str, Sequence[str]]) -> list[Field]:
    """The fields in the order of the schema, with the values and errors of an earlier try."""
    required = schema.get("required", ())
    return [
        _field(name, field, values.get(name, field.get("default", "")), name in required, _errors_of(name, errors))
        for name, field in properties_of(schema).items()
    ]


def _errors_of(name: str, errors: Mapping[str, Sequence[str]]) -> list[str]:
    return [text for path, texts in errors.items() if path == name or path.startswith(f"{name}.") for text in texts]


def _field(name: str, field: Mapping[str, Any], value: Any, is_required: bool, errors: Sequence[str]) -> Field:
    kind, step = _kind(field)
    choices = list(field.get("enum", ()))
    labels = field.get("enumNames") or [str(choice).replace("_", " ").capitalize() for choice in choices]
    return Field(
        name=name,
        label=field.get("title") or name.replace("_", " ").capitalize(),
        kind=kind,
        value=value,
        help=field.get("description", ""),
        is_required=is_required and kind != "checkbox",
        errors=errors,
        choices=[
            (str(choice), str(label), str(choice) == str(value)) for choice, label in zip(choices, labels, strict=False)
        ],
        minimum=field.get("minimum"),
        maximum=field.get("maximum"),
        step=step,
        length=field.get("maxLength"),
    )


def _kind(field: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of input, and the step of a number."""
    kind = field.get("type", "string")
    if "enum" in field:
        return "select", ""
    if kind == "boolean":
        return "checkbox", ""
    if kind in ("integer", "number"):
        return "number", "1" if kind == "integer" else "any"
    if field.get("format") == "date":
        return "date", ""
    is_long = field.get("format") == "textarea" or (field.get("maxLength") or 0) > 200
    return ("textarea" if is_long or kind in ("array", "object") else "text"), ""


def submitted(request: HttpRequest, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent for the fields of the schema, as texts."""
    names = properties_of(schema)
    return {name: request.POST[PREFIX + name] for name in names if PREFIX + name in request.POST}
