"""A form's JSON Schema as HTML fields, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest

from django_workflows.exceptions import InvalidInput

#: What the names of form fields begin with, so that they meet no other field of the page.
PREFIX: Final = "field-"
#: A text longer than this gets more than one line.
LONG: Final = 200

_INPUTS: Final = {"date": "date", "email": "email", "uri": "url", "time": "time", "password": "password"}
_PLAIN: Final = re.compile(r"[A-Za-z][\w-]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as the template draws it.

    ``kind`` is ``checkbox``, ``checkboxes``, ``select``, ``textarea``, ``json``, or a type of input.
    ``value`` and ``attributes`` are texts as HTML wants them, whatever the reader's language;
    ``choices`` are (value, label, whether it is chosen).
    """

    key: str
    id: str
    label: str
    kind: str
    value: str
    help: str
    is_required: bool
    errors: Sequence[str]
    choices: Sequence[tuple[str, str, bool]]
    attributes: Mapping[str, str]

    @property
    def described_by(self) -> str:
        """The ids of what explains the field, for screen readers."""
        parts = [f"{self.id}-errors"] if self.errors else []
        return " ".join([*parts, f"{self.id}-help"] if self.help or self.kind == "json" else parts)


def fields_of(schema: Mapping[str, Any], values: Mapping[str, Any], errors: Mapping[str, Sequence[str]]) -> list[Field]:
    """The fields in the order of the schema, with the values and errors of an earlier try."""
    required = schema.get("required", ())
    return [
        _field(number, name, field, name in required, values, _errors_of(name, errors))
        for number, (name, field) in enumerate(_properties(schema).items())
    ]


def errors_elsewhere(schema: Mapping[str, Any], errors: Mapping[str, Sequence[str]]) -> list[str]:
    """The messages that belong to no field of the page."""
    shown = [name for name in _properties(schema) if _errors_of(name, errors)]
    rest = {path: texts for path, texts in errors.items() if not any(_is_within(path, name) for name in shown)}
    return [f"{path}: {text}" if path else text for path, texts in rest.items() for text in texts]


def submitted(request: HttpRequest, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent for the fields of the schema: texts, except where HTML says more than a text.

    Raises ``InvalidInput`` for JSON that is nested too deeply to be read.
    """
    found: dict[str, Any] = {}
    for name, field in _properties(schema).items():
        key, kind = PREFIX + name, _kind(field)
        if kind == "checkbox":
            found[name] = key in request.POST
        elif kind == "checkboxes":
            if texts := request.POST.getlist(key):
                found[name] = [_meant(field["items"]["enum"], text) for text in texts]
        elif key in request.POST:
            text = request.POST[key]
            found[name] = _meant(field["enum"], text) if kind == "select" else text
            if kind == "json":
                json_of(text)
    return found


def json_of(text: str) -> Any:
    """What a JSON text means; the text itself where it is none. ``InvalidInput`` if it is too deep."""
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError as error:
        raise InvalidInput("The JSON is nested too deeply.") from error


def text_of(value: Any) -> str:
    """A value of a form as a field shows it, not as the reader's language would write it."""
    if value is None or isinstance(value, str):
        return value or ""
    indent = 2 if isinstance(value, (list, dict)) and value else None
    return json.dumps(value, ensure_ascii=False, indent=indent)


def label_of(name: str, field: Mapping[str, Any]) -> str:
    return str(field.get("title") or humanized(name))


def humanized(word: Any) -> str:
    return str(word).replace("_", " ").strip().capitalize()


def _properties(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Field -> what is known of it; JSON Schema also allows ``true`` for "anything"."""
    found = schema.get("properties", {})
    return {name: field if isinstance(field, Mapping) else {} for name, field in found.items()}


def _errors_of(name: str, errors: Mapping[str, Sequence[str]]) -> list[str]:
    return [text for path, texts in errors.items() if _is_within(path, name) for text in texts]


def _is_within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _field(
    number: int,
    name: str,
    field: Mapping[str, Any],
    is_required: bool,
    values: Mapping[str, Any],
    errors: Sequence[str],
) -> Field:
    kind = _kind(field)
    value = values[name] if name in values else field.get("default")
    return Field(
        key=PREFIX + name,
        id=f"id_{PREFIX}{name if _PLAIN.match(name) else number}",
        label=label_of(name, field),
        kind=kind,
        value=text_of(value),
        help=str(field.get("description", "")),
        is_required=is_required and kind != "checkbox",
        errors=errors,
        choices=_choices(field, kind, value),
        attributes=_attributes(field, kind),
    )


def _choices(field: Mapping[str, Any], kind: str, value: Any) -> list[tuple[str, str, bool]]:
    if kind not in ("select", "checkboxes"):
        return []
    source = field["items"] if kind == "checkboxes" else field
    chosen = value if kind == "checkboxes" and isinstance(value, list) else [value]
    taken = {text_of(one) for one in chosen if one is not None}
    options = list(source["enum"])
    labels = source.get("enumNames") or []
    named = [str(label) for label in labels] if len(labels) == len(options) else [humanized(one) for one in options]
    return [(text_of(one), label, text_of(one) in taken) for one, label in zip(options, named, strict=True)]


def _kind(field: Mapping[str, Any]) -> str:
    kind, shape, items = _type(field), field.get("format"), field.get("items")
    if "enum" in field:
        return "select"
    if kind == "array" and isinstance(items, Mapping) and "enum" in items:
        return "checkboxes"
    if kind in ("array", "object"):
        return "json"
    if kind in ("boolean", "integer", "number"):
        return "checkbox" if kind == "boolean" else "number"
    if shape == "textarea" or (field.get("maxLength") or 0) > LONG:
        return "textarea"
    return _INPUTS.get(str(shape), "text")


def _type(field: Mapping[str, Any]) -> str:
    kind = field.get("type", "string")
    return str(next((one for one in kind if one != "null"), "") if isinstance(kind, list) else kind)


def _attributes(field: Mapping[str, Any], kind: str) -> dict[str, str]:
    """HTML attribute -> value, of those that the schema's limits have there."""
    limits = {"min": "minimum", "max": "maximum"} if kind == "number" else {"maxlength": "maxLength"}
    found = {name: text_of(field[key]) for name, key in limits.items() if field.get(key) is not None}
    if kind == "number":
        found["step"] = "1" if _type(field) == "integer" else "any"
    return found if kind in ("number", "textarea", "text", "email", "url", "password") else {}


def _meant(options: Sequence[Any], text: str) -> Any:
    """The option a text stands for; the text itself where it is none, so that the schema refuses it."""
    return next((option for option in options if text_of(option) == text), text)
