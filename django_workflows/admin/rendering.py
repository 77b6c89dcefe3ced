"""Values as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_workflows.conf import settings
from django_workflows.core.masking import mask
from django_workflows.engine.loader import definition_for

from .forms import humanized, label_of, text_of

#: A drawing up to this width is made smaller where there is less room; a wider one is scrolled.
FITTED = 1150


def link(row: Any, text: str = "") -> SafeString:
    """A link to the admin page of a row."""
    return format_html('<a href="{}">{}</a>', url_of(row), text or str(row))


def url_of(row: Any) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


def badge(status: str, label: Any = "") -> SafeString:
    return format_html('<span class="wf-status wf-status-{}">{}</span>', status, label or status)


def moment(at: datetime | None) -> Any:
    """A time that takes one line of a table."""
    if at is None:
        return "–"
    local = timezone.localtime(at)
    full = formats.date_format(local, "DATETIME_FORMAT")
    return format_html(
        '<time class="wf-nowrap" datetime="{}" title="{}">{}</time>', at.isoformat(), full, f"{local:%Y-%m-%d %H:%M}"
    )


def duration(seconds: float | None) -> str:
    """The two largest units, as people say it."""
    if seconds is None:
        return "–"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or (f"{seconds:.2f} s" if seconds >= 0.005 else "< 0.01 s")


def hidden_keys(definition_id: Any = None) -> tuple[str, ...]:
    """The keys whose values nobody sees: those of the settings, and of the definition."""
    own = () if definition_id is None else definition_for(definition_id).sensitive
    return (*settings.SENSITIVE_KEYS, *own)


def pretty(value: Any, definition_id: Any = None) -> str:
    """JSON for people, with what is sensitive hidden."""
    return json.dumps(mask(value, hidden_keys(definition_id)), indent=2, ensure_ascii=False, default=str)


def answers(form: Mapping[str, Any], schema: Mapping[str, Any], definition_id: Any) -> list[tuple[str, str]]:
    """A filled-in form as (label, value), with what is sensitive hidden."""
    known = schema.get("properties", {})
    shown = mask(form, hidden_keys(definition_id))
    return [
        (label_of(name, known[name]) if isinstance(known.get(name), Mapping) else humanized(name), _said(value))
        for name, value in shown.items()
    ]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)


def summary(payload: Mapping[str, Any], *, skip: Sequence[str] = (), keys: Sequence[str] = (), room: int = 280) -> str:
    """A dictionary on one line: ``key: value; …``, without what is empty, in ``skip``, or too long."""
    parts = [
        f"{key.replace('_', ' ')}: {_brief(value)}"
        for key, value in mask(payload, keys).items()
        if key not in skip and value not in ("", None, [], {}, False)
    ]
    text = "; ".join(parts)
    return text if len(text) <= room else text[: room - 1] + "…"


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, (str, int, float)) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def picture(svg: str) -> SafeString:
    """A drawing with its frame; its texts have been escaped where it was made (``core.drawing``)."""
    width = re.search(r'\bwidth="(\d+)"', svg)
    fits = width is not None and int(width[1]) <= FITTED
    drawing = mark_safe(svg)  # noqa: S308 - see above
    return format_html(
        '<div class="wf-scroll{}" tabindex="0" role="region" aria-label="{}">{}</div>',
        " wf-fitted" if fits else "",
        "Drawing",
        drawing,
    )
