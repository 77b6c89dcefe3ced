"""All problems of a definition at once, each with a code and a place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from django_workflows.exceptions import InvalidDefinition, InvalidValue

from . import expressions, forms, templating
from .durations import parse_duration
from .versions import version_key

if TYPE_CHECKING:
    from .definition import Definition, Step

Severity = Literal["error", "warning"]

_STEP_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}\Z")
_WORKFLOW_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}\Z")
_STEP_REFERENCE: Final = re.compile(r"\bsteps\.([A-Za-z_][A-Za-z0-9_]*)")
#: What may stand in a workflow that is not durable.
TRANSIENT_STEPS: Final = ("machine", "decision", "fork", "join", "end")
STARTS: Final = ("everyone", "granted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong. ``place`` is a path such as ``steps.pay.mode``; line and column (from 1)
    are known for definitions read from text, 0 otherwise."""

    code: str
    message: str
    place: str = ""
    severity: Severity = "error"
    line: int = 0
    column: int = 0
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}, {self.place}" if self.line else self.place
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{where}: {self.message}{hint} [{self.code}]" if where else f"{self.message}{hint} [{self.code}]"


def validate(definition: Definition) -> tuple[Problem, ...]:
    """Every problem of the definition, errors before warnings, in the order of the drawing."""
    found = [*_head_problems(definition), *_name_problems(definition), *_edge_problems(definition)]
    if definition.initial in definition.by_name:
        found += _graph_problems(definition)
    for step in definition.steps:
        found += _step_problems(step)
        found += step.problems(definition)
    found += _reference_problems(definition)
    return tuple(sorted(dict.fromkeys(found), key=lambda problem: problem.severity == "warning"))


def ensure_valid(definition: Definition) -> None:
    """Raise ``InvalidDefinition`` with every error; warnings pass."""
    errors = [problem for problem in validate(definition) if problem.severity == "error"]
    if errors:
        raise InvalidDefinition(definition.name, errors)


def expression_problems(text: str, place: str, kind: str) -> Iterator[Problem]:
    """What the expression language says of ``text``; ``kind`` is ``bool`` or ``value``."""
    expect: Literal["bool", "value"] = "bool" if kind == "bool" else "value"
    for found in expressions.check(text, expect=expect):
        yield Problem(
            code="invalid_expression",
            place=place,
            message=f"{found.message} in {found.text!r}, character {found.column}",
        )


def duration_problems(text: str, place: str) -> Iterator[Problem]:
    if not text:
        return
    try:
        parse_duration(text)
    except InvalidValue as error:
        yield Problem(code="invalid_duration", place=place, message=error.message)


def form_problems(schema: Mapping[str, Any] | None, place: str) -> Iterator[Problem]:
    if schema is not None:
        for message in forms.check_schema(schema):
            yield Problem(code="invalid_schema", place=place, message=message)


def _head_problems(definition: Definition) -> Iterator[Problem]:
    if not _WORKFLOW_NAME.match(definition.name):
        yield Problem(
            code="invalid_name",
            place="name",
            message=f"{definition.name!r} is no name: a letter, then letters, digits, '-', '_' or '.', at most 100",
        )
    try:
        version_key(definition.version)
    except InvalidValue as error:
        yield Problem(code="invalid_version", place="version", message=error.message)
    if definition.start not in STARTS:
        yield Problem(
            code="unknown_start", place="start", message=f"{definition.start!r}; allowed: {', '.join(STARTS)}"
        )
    if definition.max_visits < 1:
        yield Problem(code="invalid_bound", place="max_visits", message="a step must be allowed at least one visit")
    if not definition.steps:
        yield Problem(code="no_steps", place="steps", message="a workflow needs at least one step")
    yield from _lifetime_problems(definition)
    yield from form_problems(definition.data_schema, "data_schema")
    for name, text in definition.outputs.items():
        yield from expression_problems(text, f"outputs.{name}", "value")
    yield from _template_problems(definition.instance_title, "instance_title")


def _lifetime_problems(definition: Definition) -> Iterator[Problem]:
    for name in ("max_duration", "retention"):
        yield from duration_problems(getattr(definition, name), name)
    for name in ("max_recoveries", "max_active"):
        if (getattr(definition, name) or 0) < 0:
            yield Problem(code="invalid_bound", place=name, message="it cannot be less than 0")
    if definition.durable:
        return
    for step in definition.steps:
        if step.type not in TRANSIENT_STEPS:
            yield Problem(
                code="transient_wait",
                place=f"steps.{step.name}",
                message=f"a workflow that is not durable keeps nothing while it waits, and a {step.type} step waits",
            )
        elif getattr(step, "mode", "") == "at_most_once":
            yield Problem(
                code="transient_mode",
                place=f"steps.{step.name}.mode",
                message="a workflow that is not durable starts again from its beginning after a crash, "
                "so nothing in it can be promised to happen at most once",
            )


def _template_problems(text: str, place: str) -> Iterator[Problem]:
    for found in templating.check(text) if text else ():
        yield Problem(code="invalid_template", place=place, message=found.message)


def _name_problems(definition: Definition) -> Iterator[Problem]:
    seen: set[str] = set()
    for step in definition.steps:
        if not _STEP_NAME.match(step.name):
            yield Problem(
                code="invalid_step_name",
                place=f"steps.{step.name}",
                message=f"{step.name!r} is no step name: a letter, then letters, digits or '_', at most 63",
            )
        if step.name in seen:
            yield Problem(code="duplicate_step", place=f"steps.{step.name}", message="two steps bear this name")
        seen.add(step.name)
    if definition.steps and definition.initial not in seen:
        yield _unknown(definition, definition.initial, "initial")


def _unknown(definition: Definition, name: str, place: str) -> Problem:
    near = get_close_matches(name, list(definition.by_name), n=1)
    return Problem(
        code="unknown_step",
        place=place,
        message=f"there is no step {name!r}",
        suggestion=f"did you mean {near[0]!r}?" if near else "",
    )


def _edge_problems(definition: Definition) -> Iterator[Problem]:
    taken: set[tuple[str, str]] = set()
    for number, edge in enumerate(definition.edges):
        place = f"edges[{number}]"
        for name in (edge.source, edge.target):
            if name not in definition.by_name:
                yield _unknown(definition, name, place)
        step = definition.by_name.get(edge.source)
        if step is None:
            continue
        if edge.condition:
            yield from expression_problems(edge.condition, f"{place}.condition", "bool")
        if step.chooses:
            if edge.outcome:
                yield Problem(
                    code="outcome_on_gateway",
                    place=place,
                    message=f"{step.name!r} chooses by conditions, not outcomes",
                )
            continue
        yield from _ordinary_edge_problems(
            step, edge.outcome, place, conditional=bool(edge.condition or edge.otherwise)
        )
        if (edge.source, edge.outcome) in taken:
            which = f"for {edge.outcome!r}" if edge.outcome else "without an outcome"
            yield Problem(
                code="ambiguous_exit",
                place=place,
                message=f"{step.name!r} has two ways out {which}",
                suggestion="put a decision or a fork behind it",
            )
        taken.add((edge.source, edge.outcome))


def _ordinary_edge_problems(step: Step, outcome: str, place: str, *, conditional: bool) -> Iterator[Problem]:
    if conditional:
        yield Problem(
            code="condition_on_step",
            place=place,
            message=f"{step.name!r} is neither a decision nor a fork, its ways out carry no condition",
            suggestion="put a decision behind it",
        )
    if outcome and outcome not in step.outcomes_offered():
        offered = ", ".join(step.outcomes_offered()) or "none"
        yield Problem(
            code="unknown_outcome",
            place=place,
            message=f"{step.name!r} never ends as {outcome!r}; its outcomes: {offered}",
        )


def _graph_problems(definition: Definition) -> Iterator[Problem]:
    reachable = definition.reachable()
    for step in definition.steps:
        if step.name not in reachable:
            yield Problem(
                code="unreachable_step",
                place=f"steps.{step.name}",
                message=f"no way leads from {definition.initial!r} to {step.name!r}",
            )
        if step.chooses and not definition.exits[step.name]:
            yield Problem(code="no_exit", place=f"steps.{step.name}", message="a gateway needs a way out")
    ends = [name for name in reachable if definition.is_terminal(name) or _may_end(definition, name)]
    if not ends:
        yield Problem(code="no_end", place="steps", message="no way ever ends")
    else:
        yield from _trapped(definition, reachable, ends)
    yield from _balance_problems(definition)


def _may_end(definition: Definition, name: str) -> bool:
    """Whether some outcome of the step has no way out, so that the instance may end there."""
    offered = definition.step(name).outcomes_offered()
    return any(outcome != "failed" and definition.exit_for(name, outcome) is None for outcome in offered)


def _trapped(definition: Definition, reachable: frozenset[str], ends: list[str]) -> Iterator[Problem]:
    """Steps from which no end can be reached: a loop without a way out."""
    good: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name not in good:
            good.add(name)
            waiting.extend(definition.previous_steps(name))
    for step in definition.steps:
        if step.name in reachable and step.name not in good:
            yield Problem(
                code="endless_loop",
                place=f"steps.{step.name}",
                message=f"from {step.name!r} no end can be reached",
            )


def _balance_problems(definition: Definition) -> Iterator[Problem]:
    """Every join closes one fork, and no way leads into or out of a fork but through it."""
    inside: dict[str, tuple[str, ...]] = {definition.initial: ()}
    closed_by: dict[str, str] = {}
    waiting = [definition.initial]
    found: dict[Problem, None] = {}
    while waiting:
        name = waiting.pop()
        step, stack = definition.step(name), inside[name]
        if step.type == "join":
            if not stack:
                found[_unbalanced("join_without_fork", name, f"{name!r} joins branches that no fork opened")] = None
                continue
            if closed_by.setdefault(stack[-1], name) != name:
                text = f"the fork {stack[-1]!r} is joined by both {closed_by[stack[-1]]!r} and {name!r}"
                found[_unbalanced("two_joins", name, text)] = None
            stack = stack[:-1]
        after = (*stack, name) if step.type == "fork" else stack
        for target in definition.next_steps(name):
            if target not in definition.by_name:
                continue
            if target not in inside:
                inside[target] = after
                waiting.append(target)
            elif inside[target] != after:
                text = f"{target!r} is reached from inside and from outside of a fork"
                found[_unbalanced("unbalanced_fork", target, text)] = None
    yield from found


def _unbalanced(code: str, name: str, message: str) -> Problem:
    return Problem(code=code, place=f"steps.{name}", message=message)


def _step_problems(step: Step) -> Iterator[Problem]:
    place = f"steps.{step.name}"
    for name, kind in step.expressions.items():
        text = getattr(step, name)
        if text:
            yield from expression_problems(text, f"{place}.{name}", kind)
    for name in step.templates:
        yield from _template_problems(getattr(step, name), f"{place}.{name}")


def _reference_problems(definition: Definition) -> Iterator[Problem]:
    """``steps.x`` in an expression must name a step of this drawing."""
    for place, text in texts(definition):
        for name in dict.fromkeys(_STEP_REFERENCE.findall(text)):
            if name not in definition.by_name:
                yield replace(_unknown(definition, name, place), code="unknown_reference")


def texts(definition: Definition) -> Iterator[tuple[str, str]]:
    """Every expression and template of the definition, with its place."""
    yield "instance_title", definition.instance_title
    for name, text in definition.outputs.items():
        yield f"outputs.{name}", text
    for number, edge in enumerate(definition.edges):
        yield f"edges[{number}].condition", edge.condition
    for step in definition.steps:
        for name in (*step.expressions, *step.templates):
            yield f"steps.{step.name}.{name}", getattr(step, name)
        for name, text in getattr(step, "arguments", {}).items():
            yield f"steps.{step.name}.arguments.{name}", text
        assignment = getattr(step, "assign", None)
        if assignment is not None:
            yield f"steps.{step.name}.assign.expression", assignment.expression
