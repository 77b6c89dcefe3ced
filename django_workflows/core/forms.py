"""Forms as JSON Schema (2020-12): checked, filled with defaults, and answered with errors per field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs

from django_workflows.exceptions import InvalidForm

_TRUE: Final = frozenset({"true", "on", "1", "yes"})
_FALSE: Final = frozenset({"false", "off", "0", "no"})


def check_schema(schema: Any) -> list[str]:
    """What is wrong with the schema itself; a form's schema describes an object and refers to nothing outside."""
    if not isinstance(schema, Mapping):
        return ["a form's schema is an object"]
    problems = []
    if schema.get("type") != "object":
        problems.append("a form's schema has the type 'object'")
    problems += [f"{reference!r} refers to something outside" for reference in _references(schema)]
    if not problems:
        try:
            _validator(_canonical(schema))
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            problems.append(str(error).splitlines()[0])
    return problems


def properties_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a form; none where the schema is not (yet) a right one."""
    found = schema.get("properties", {})
    return found if isinstance(found, Mapping) else {}


def _references(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        own = node.get("$ref")
        found = [own] if isinstance(own, str) and not own.startswith("#") else []
        return found + [ref for item in node.values() for ref in _references(item)]
    if isinstance(node, list):
        return [ref for item in node for ref in _references(item)]
    return []


def _canonical(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


@lru_cache(maxsize=512)
def _validator(canonical: str) -> Any:
    schema = json.loads(canonical)
    if not {"additionalProperties", "unevaluatedProperties", "patternProperties"} & schema.keys():
        schema["additionalProperties"] = False
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def clean(schema: Mapping[str, Any], data: Mapping[str, Any], *, coerce: bool = False) -> dict[str, Any]:
    """The data with defaults filled in. Raises ``InvalidForm`` with the messages of every field.

    With ``coerce`` the texts of an HTML form are first turned into what the schema's types say.
    """
    found = _coerced(schema, data) if coerce else dict(data)
    for name, field in properties_of(schema).items():
        if name not in found and isinstance(field, Mapping) and "default" in field:
            found[name] = deepcopy(field["default"])
    errors: dict[str, list[str]] = {}
    for error in _validator(_canonical(schema)).iter_errors(found):
        for field, message in _messages(error):
            errors.setdefault(field, []).append(message)
    if errors:
        raise InvalidForm(errors)
    return found


def _messages(error: Any) -> list[tuple[str, str]]:
    """The field (dotted path, empty for the form) and what is wrong with it, for people."""
    path = ".".join(str(part) for part in error.instance_path)
    kind = type(error.kind).__name__.rpartition("_")[2]
    if kind == "Required":
        name = error.kind.property.strip('"')
        return [(f"{path}.{name}".strip("."), "This field is required.")]
    if kind == "AdditionalProperties":
        return [(f"{path}.{name}".strip("."), "There is no such field.") for name in error.kind.unexpected]
    return [(path, error.message[:300])]


def _coerced(schema: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    properties, found = properties_of(schema), {}
    for name, value in data.items():
        if value != "":  # what is left empty was not filled in
            found[name] = _from_text(properties.get(name, {}), value)
    for name, field in properties.items():
        if _kind(field) == "boolean" and name not in found:
            found[name] = False
    return found


def _kind(field: Any) -> str:
    kind = field.get("type", "") if isinstance(field, Mapping) else ""
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "")
    return str(kind)


def _from_text(field: Any, value: Any) -> Any:
    """What a text means under the field's type; left as it is where it means nothing."""
    if not isinstance(value, str):
        return value
    kind = _kind(field)
    try:
        if kind == "integer":
            return int(value)
        if kind == "number":
            return float(value) if any(char in value for char in ".eE") else int(value)
        if kind in ("array", "object"):
            return json.loads(value)
    except ValueError:
        return value
    if kind == "boolean" and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    return value
