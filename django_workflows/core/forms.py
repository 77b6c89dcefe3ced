from __future__ import annotations

from typing import Any

import jsonschema_rs

from django_workflows.exceptions import InvalidForm


def check_schema(schema: Any) -> list[str]:
    return []


def clean(schema: Any, data: Any, *, coerce: bool = False) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    for e in jsonschema_rs.validator_for({"additionalProperties": False, **schema}).iter_errors(data):
        errors.setdefault(".".join(map(str, e.instance_path)), []).append(e.message)
    if errors:
        raise InvalidForm(errors)
    return dict(data)
