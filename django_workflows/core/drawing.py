"""Pictures of definitions, and of instances with their state: SVG, Mermaid, DOT and JSON.

The SVG needs no script, no stylesheet and no other file: its colours are presentation attributes, which
``drawing.css`` follows to the reader's theme. State is shown by a mark as well as by colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from .definition import Definition, Edge, Step
from .layout import Box, Layout, Point, Route, lay_out

#: State of a step -> its mark.
MARKS: Final = {"done": "✓", "current": "●", "failed": "!", "skipped": "↷", "canceled": "×"}

_SIZES: Final[Mapping[str, Point]] = {
    "diamond": (132.0, 64.0),
    "bar": (14.0, 72.0),
    "end": (104.0, 40.0),
}
_BOX: Final[Point] = (158.0, 50.0)
_COLOURS: Final = {
    "": ("#ffffff", "#5b80a5"),
    "done": ("#e6f4ea", "#2e7d43"),
    "current": ("#fff4d6", "#b07700"),
    "failed": ("#fde8e8", "#b3261e"),
    "skipped": ("#f1f3f4", "#80868b"),
    "canceled": ("#f1f3f4", "#80868b"),
}
_LABEL_LENGTH: Final = 26


def states_of(
    open_steps: Mapping[str, str], results: Mapping[str, Mapping[str, Any]], canceled: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Step name -> ``done``, ``current``, ``failed``, ``skipped`` or ``canceled``.

    ``open_steps`` maps the steps that are open to the status of their execution; ``results`` are those
    of the instance; ``canceled`` names steps that were canceled last.
    """
    states = dict.fromkeys(canceled, "canceled")
    for name, result in results.items():
        states[name] = {"skipped": "skipped", "failed": "failed"}.get(str(result.get("outcome")), "done")
    for name, status in open_steps.items():
        states[name] = "failed" if status == "failed" else "current"
    return states


def graph(definition: Definition, states: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Nodes with their places and edges with their points, for front ends that draw for themselves."""
    layout = _layout(definition)
    nodes = [_node(step, layout.boxes[step.name], (states or {}).get(step.name, "")) for step in definition.steps]
    edges = [
        {
            "source": edge.source,
            "target": edge.target,
            "label": edge.text,
            "outcome": edge.outcome,
            "condition": edge.condition,
            "otherwise": edge.otherwise,
            "is_back": route.is_back,
            "points": [list(point) for point in route.points],
        }
        for edge, route in zip(_edges(definition), layout.routes, strict=True)
    ]
    return {
        "initial": definition.initial,
        "width": layout.width,
        "height": layout.height,
        "nodes": nodes,
        "edges": edges,
    }


def _node(step: Step, box: Box, state: str) -> dict[str, Any]:
    return {
        "id": step.name,
        "label": step.label,
        "type": step.type,
        "shape": step.shape,
        "state": state,
        "x": box.x,
        "y": box.y,
        "width": box.width,
        "height": box.height,
    }


def _edges(definition: Definition) -> list[Edge]:
    """Those whose ends are there: a draft may be drawn while it is still wrong."""
    return [e for e in definition.edges if e.source in definition.by_name and e.target in definition.by_name]


def _layout(definition: Definition) -> Layout:
    names = [step.name for step in definition.by_name.values()]
    names.sort(key=lambda name: name != definition.initial)
    sizes = {step.name: _SIZES.get(step.shape, _BOX) for step in definition.by_name.values()}
    return lay_out(names, [(edge.source, edge.target) for edge in _edges(definition)], sizes)


# SVG


def svg(definition: Definition, states: Mapping[str, str] | None = None, *, title: str = "") -> str:
    """The picture as one SVG element that stands alone."""
    layout, states = _layout(definition), states or {}
    key = "wf-" + re.sub(r"[^A-Za-z0-9]+", "-", f"{definition.name}-{definition.version}")
    name = escape(title or f"{definition.label}, version {definition.version}")
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="wf-drawing" role="img" '
            f'aria-labelledby="{key}-title {key}-desc" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" '
            f'width="{layout.width:.0f}" height="{layout.height:.0f}" '
            f'font-family="system-ui, sans-serif" font-size="13">'
        ),
        f'<title id="{key}-title">{name}</title><desc id="{key}-desc">{escape(_described(definition, states))}</desc>',
        (
            f'<defs><marker id="{key}-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path class="wf-arrow" d="M0 0L8 4L0 8z" fill="#5f6b7a"/></marker></defs>'
        ),
    ]
    arrows = list(zip(_edges(definition), layout.routes, strict=True))
    parts += [_svg_edge(edge, route, key) for edge, route in arrows]
    parts += [_svg_start(layout.boxes[definition.initial], key)] if definition.initial in layout.boxes else []
    parts += [
        _svg_step(step, layout.boxes[step.name], states.get(step.name, "")) for step in definition.by_name.values()
    ]
    parts += [_svg_label(edge, route) for edge, route in arrows if edge.text]
    return "\n".join([*parts, "</svg>"])


def _described(definition: Definition, states: Mapping[str, str]) -> str:
    steps = [f"{s.label} ({s.type}{', ' + states[s.name] if s.name in states else ''})" for s in definition.steps]
    return "Steps: " + "; ".join(steps)


def _path(points: tuple[Point, ...]) -> str:
    (x, y), d = points[0], ""
    for next_x, next_y in points[1:]:
        middle = (x + next_x) / 2
        d += f"C{middle:.0f} {y:.0f} {middle:.0f} {next_y:.0f} {next_x:.0f} {next_y:.0f}"
        x, y = next_x, next_y
    return f"M{points[0][0]:.0f} {points[0][1]:.0f}{d}"


def _svg_edge(edge: Edge, route: Route, key: str) -> str:
    dashes = ' stroke-dasharray="6 4"' if route.is_back else ""
    back = " wf-back" if route.is_back else ""
    return (
        f'<path class="wf-edge{back}" d="{_path(route.points)}" fill="none" stroke="#5f6b7a" stroke-width="1.5"'
        f'{dashes} marker-end="url(#{key}-arrow)"><title>{escape(edge.source)} → {escape(edge.target)}</title></path>'
    )


def _svg_label(edge: Edge, route: Route) -> str:
    (x1, y1), (x2, y2) = route.points[0], route.points[1]
    x, y = _on_curve(x1, y1, x2, y2, 0.18 if route.is_back else 0.42)
    text = edge.text if len(edge.text) <= _LABEL_LENGTH else edge.text[: _LABEL_LENGTH - 1] + "…"
    return (
        f'<text class="wf-label" x="{x:.0f}" y="{y - 4:.0f}" text-anchor="middle" '
        f'font-size="11" fill="#3c4654" stroke="#ffffff" stroke-width="3" paint-order="stroke">'
        f"<title>{escape(edge.text)}</title>{escape(text)}</text>"
    )


def _on_curve(x1: float, y1: float, x2: float, y2: float, t: float) -> Point:
    """The point of an arrow's first bend at ``t``; near its source arrows lie further apart."""
    middle, rest = (x1 + x2) / 2, 1 - t
    x = rest**3 * x1 + 3 * rest**2 * t * middle + 3 * rest * t**2 * middle + t**3 * x2
    return x, (rest**3 + 3 * rest**2 * t) * y1 + (3 * rest * t**2 + t**3) * y2


def _svg_start(box: Box, key: str) -> str:
    y = box.center[1]
    return (
        f'<circle class="wf-start" cx="{box.x - 20:.0f}" cy="{y:.0f}" r="5" fill="#5f6b7a"/>'
        f'<path class="wf-edge" d="M{box.x - 15:.0f} {y:.0f}H{box.x:.0f}" stroke="#5f6b7a" stroke-width="1.5" '
        f'marker-end="url(#{key}-arrow)"/>'
    )


def _svg_step(step: Step, box: Box, state: str) -> str:
    fill, stroke = _COLOURS.get(state, _COLOURS[""])
    width = "2.5" if state in ("current", "failed") or step.shape == "end" else "1.5"
    shape = _svg_shape(step.shape, box)
    status = f", {state}" if state else ""
    return (
        f'<g class="wf-step wf-{escape(step.type)}{" wf-" + escape(state) if state else ""}" '
        f'data-step="{escape(step.name)}"><title>{escape(step.label)} ({escape(step.type)}{escape(status)})</title>'
        f'<{shape} class="wf-shape" fill="{fill}" stroke="{stroke}" stroke-width="{width}"/>'
        f"{_svg_icon(step.shape, box, stroke)}{_svg_texts(step, box)}{_svg_mark(state, box, stroke)}</g>"
    )


def _svg_shape(shape: str, box: Box) -> str:
    (x, y), (w, h), (cx, cy) = (box.x, box.y), (box.width, box.height), box.center
    if shape == "diamond":
        return f'path d="M{cx:.0f} {y:.0f}L{x + w:.0f} {cy:.0f}L{cx:.0f} {y + h:.0f}L{x:.0f} {cy:.0f}z"'
    radius = {"bar": 4, "end": h / 2, "human": 12, "timer": h / 2}.get(shape, 5)
    return f'rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{h:.0f}" rx="{radius:.0f}"'


def _svg_icon(shape: str, box: Box, stroke: str) -> str:
    x, y = box.x + 17, box.center[1]
    pen = f'class="wf-icon" fill="none" stroke="{stroke}" stroke-width="1.5"'
    if shape == "human":
        head = f"M{x - 3:.0f} {y - 4:.0f}a3.5 3.5 0 1 1 7 0a3.5 3.5 0 1 1 -7 0"
        return f'<path {pen} d="{head}M{x - 6:.0f} {y + 8:.0f}a6.5 6.5 0 0 1 13 0"/>'
    if shape == "timer":
        return f'<path {pen} d="M{x - 7:.0f} {y:.0f}a7 7 0 1 1 14 0a7 7 0 1 1 -14 0M{x:.0f} {y - 4:.0f}v4h3"/>'
    if shape == "box":
        return f'<path {pen} d="M{x - 6:.0f} {y - 5:.0f}h12M{x - 6:.0f} {y:.0f}h12M{x - 6:.0f} {y + 5:.0f}h7"/>'
    return ""


def _svg_texts(step: Step, box: Box) -> str:
    """The label in at most two lines, within the box; a bar has it below."""
    cx, cy = box.center
    if step.shape == "bar":
        return _svg_line(_shortened(step.label, 18), cx, box.y + box.height + 14, "middle", 11)
    room = {"diamond": 15, "end": 14}.get(step.shape, 17)
    icon = step.shape in ("human", "timer", "box")
    x = box.x + 31 if icon else cx
    lines = _wrapped(step.label, room)
    size = 12 if step.shape == "diamond" else 13
    top = cy + 4.5 - (len(lines) - 1) * 7.5
    return "".join(
        _svg_line(line, x, top + number * 15, "start" if icon else "middle", size) for number, line in enumerate(lines)
    )


def _svg_line(text: str, x: float, y: float, anchor: str, size: int) -> str:
    return (
        f'<text class="wf-text" x="{x:.0f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="#1f2933">{escape(text)}</text>'
    )


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def _wrapped(text: str, room: int) -> list[str]:
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 2:
        lines = [lines[0], " ".join(lines[1:])]
    return [_shortened(line, room) for line in lines]


def _svg_mark(state: str, box: Box, stroke: str) -> str:
    if state not in MARKS:
        return ""
    x, y = box.x + box.width - 3, box.y + 3
    return (
        f'<circle class="wf-badge" cx="{x:.0f}" cy="{y:.0f}" r="9" fill="{stroke}"/>'
        f'<text class="wf-mark" x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-size="11" font-weight="bold" '
        f'fill="#ffffff">{MARKS[state]}</text>'
    )


# Mermaid and DOT

_MERMAID_SHAPES: Final = {
    "machine": "[{}]",
    "human": "([{}])",
    "approval": "([{}])",
    "decision": "{{{}}}",
    "fork": "[[{}]]",
    "join": "[[{}]]",
    "timer": "(({}))",
    "end": "((({})))",
}


def mermaid(definition: Definition, states: Mapping[str, str] | None = None) -> str:
    """A Mermaid flowchart; ids are made up, so that no name can break it."""
    ids = {name: f"s{number}" for number, name in enumerate(definition.by_name)}
    lines = ["flowchart LR", "  start([Start])"]
    for step in definition.by_name.values():
        label = '"' + _mermaid_text(step.label) + '"'
        lines.append(f"  {ids[step.name]}{_MERMAID_SHAPES.get(step.type, '[{}]').format(label)}")
    if definition.initial in ids:
        lines.append(f"  start --> {ids[definition.initial]}")
    for edge in _edges(definition):
        label = f'|"{_mermaid_text(edge.text)}"|' if edge.text else ""
        lines.append(f"  {ids[edge.source]} -->{label} {ids[edge.target]}")
    for state in sorted(set((states or {}).values()) & set(_COLOURS)):
        fill, stroke = _COLOURS[state]
        of_state = [ids[name] for name, value in (states or {}).items() if value == state and name in ids]
        if of_state:
            lines.append(f"  classDef {state} fill:{fill},stroke:{stroke},color:#1f2933")
            lines.append(f"  class {','.join(of_state)} {state}")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Everything that is not a plain character as an entity, as Mermaid reads them."""
    return "".join(char if char.isalnum() or char in " .,-_/" else f"#{ord(char)};" for char in " ".join(text.split()))


_DOT_SHAPES: Final = {"diamond": "diamond", "bar": "rect", "end": "doublecircle", "timer": "circle", "human": "box"}


def dot(definition: Definition, states: Mapping[str, str] | None = None) -> str:
    """The drawing for Graphviz."""
    lines = [f"digraph {_quoted(definition.name)} {{", "  rankdir=LR;", "  __start [shape=point];"]
    for step in definition.by_name.values():
        fill, stroke = _COLOURS.get((states or {}).get(step.name, ""), _COLOURS[""])
        style = "rounded,filled" if step.shape == "human" else "filled"
        lines.append(
            f"  {_quoted(step.name)} [label={_quoted(step.label)}, shape={_DOT_SHAPES.get(step.shape, 'box')}, "
            f'style="{style}", fillcolor="{fill}", color="{stroke}"];'
        )
    if definition.initial in definition.by_name:
        lines.append(f"  __start -> {_quoted(definition.initial)};")
    for edge in _edges(definition):
        label = f" [label={_quoted(edge.text)}]" if edge.text else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "") + '"'
