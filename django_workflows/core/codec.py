"""Definition <-> JSON, without loss, and a hash of what it says.

``FORMAT`` is the number of the shape; a document of an older shape is upgraded step by step
when it is read, one of a newer shape is refused. YAML is read too, with places for problems.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from django_workflows.exceptions import InvalidDefinition, InvalidInput

from .definition import Definition, Edge, Step
from .steps import STEP_TYPES
from .validation import Problem
from .values import encode, parse_json

T = TypeVar("T")

FORMAT: Final = 1

#: Format number -> function that lifts a document of that shape to the next one.
UPGRADES: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}

MAX_BYTES: Final = 2_000_000


def to_json(definition: Definition) -> dict[str, Any]:
    """The definition as plain JSON; fields that hold their default are left out."""
    document = _encode_fields(definition, skip=("steps", "edges"))
    document["steps"] = [{"type": step.type, **_encode_fields(step)} for step in definition.steps]
    document["edges"] = [_encode_fields(edge) for edge in definition.edges]
    return {"format": FORMAT, **document}


def from_json(document: Any) -> Definition:
    """Read what ``to_json`` wrote, or a person did. Raises ``InvalidDefinition`` with every problem.

    Steps without any ``edges`` key form a chain, in the order given; without ``initial`` the first
    step is the initial one.
    """
    reader = _Reader()
    definition = reader.definition(document)
    if reader.problems or definition is None:
        name = document.get("name", "") if isinstance(document, Mapping) else ""
        raise InvalidDefinition(str(name), reader.problems)
    return definition


def loads(text: str | bytes) -> Definition:
    """Read a definition from JSON or YAML text; problems then carry line and column.

    Raises ``InvalidDefinition``, or ``InvalidInput`` for text that is neither.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"A definition may have at most {MAX_BYTES} bytes.", limit=MAX_BYTES)
    source = text.decode("utf-8", errors="strict") if isinstance(text, bytes) else text
    document, marks = _parse(source)
    try:
        return from_json(document)
    except InvalidDefinition as error:
        raise InvalidDefinition(error.facts["name"], locate(error.problems, marks)) from None


def dumps(definition: Definition, *, indent: int | None = 2) -> str:
    """The definition as JSON text."""
    return json.dumps(to_json(definition), indent=indent, ensure_ascii=False)


def content_hash(definition: Definition) -> str:
    """SHA-256 (hex) over the canonical JSON: equal exactly where the definitions say the same."""
    canonical = json.dumps(to_json(definition), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def differences(old: Definition, new: Definition) -> list[str]:
    """Where two definitions differ, one line each, for people."""
    return list(_differences(_keyed(to_json(old)), _keyed(to_json(new)), ""))


def _keyed(document: dict[str, Any]) -> dict[str, Any]:
    steps = {step["name"]: step for step in document["steps"]}
    edges = {f"{e['source']}>{e['target']}{':' + e['outcome'] if 'outcome' in e else ''}": e for e in document["edges"]}
    return {**document, "steps": steps, "edges": edges}


def _differences(old: Any, new: Any, place: str) -> list[str]:
    if old == new:
        return []
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [f"{place}: {json.dumps(old)} became {json.dumps(new)}"]
    found = []
    for key in dict.fromkeys((*old, *new)):
        inner = f"{place}.{key}" if place else str(key)
        if key not in new:
            found.append(f"{inner} was removed")
        elif key not in old:
            found.append(f"{inner} was added")
        else:
            found += _differences(old[key], new[key], inner)
    return found


def _encode_fields(value: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {}
    for item in fields(value):
        if item.name in skip:
            continue
        content = getattr(value, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if content != default or default is MISSING:
            found[item.name] = _encode(content)
    return found


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        return _encode_fields(value)
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    return value


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    names = {"Run": Any, "Token": Any, "Definition": Any, "Problem": Any, "AnswerFunction": Any}
    return get_type_hints(kind, localns=names)


class _Reader:
    """Reads a document and gathers every problem on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, place: str, message: str, code: str = "invalid_document") -> None:
        self.problems.append(Problem(code=code, place=place, message=message))

    def definition(self, document: Any) -> Definition | None:
        if not isinstance(document, Mapping):
            self.problem("", f"a definition is an object, not {_kind(document)}")
            return None
        document = self._upgraded(dict(document))
        steps = self._steps(document.pop("steps", []))
        edges = self._edges(document, steps)
        head = self._object(Definition, document, "", known=frozenset({"steps", "edges"}))
        if head is None:
            return None
        definition = replace(head, steps=tuple(steps), edges=tuple(edges))
        return definition if definition.initial or not steps else replace(definition, initial=steps[0].name)

    def _upgraded(self, document: dict[str, Any]) -> dict[str, Any]:
        number = document.pop("format", FORMAT)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= FORMAT:
            self.problem("format", f"format {number!r} is unknown; this version reads up to {FORMAT}")
            return document
        while number < FORMAT:
            document, number = UPGRADES[number](document), number + 1
        return document

    def _steps(self, found: Any) -> list[Step]:
        if not isinstance(found, list):
            self.problem("steps", f"steps are a list, not {_kind(found)}")
            return []
        steps = [self._step(item, f"steps[{number}]") for number, item in enumerate(found)]
        return [step for step in steps if step is not None]

    def _step(self, item: Any, place: str) -> Step | None:
        if not isinstance(item, Mapping):
            self.problem(place, f"a step is an object, not {_kind(item)}")
            return None
        if isinstance(item.get("name"), str) and item["name"]:
            place = f"steps.{item['name']}"
        kind = STEP_TYPES.get(item["type"]) if isinstance(item.get("type"), str) else None
        if kind is None:
            allowed = ", ".join(sorted(STEP_TYPES))
            self.problem(f"{place}.type", f"{item.get('type')!r} is no step type; allowed: {allowed}", "unknown_type")
            return None
        return self._object(kind, {key: value for key, value in item.items() if key != "type"}, place)

    def _edges(self, document: dict[str, Any], steps: list[Step]) -> list[Edge]:
        if "edges" not in document:
            pairs = pairwise(steps)
            return [Edge(source=before.name, target=after.name) for before, after in pairs]
        found = document.pop("edges")
        if not isinstance(found, list):
            self.problem("edges", f"edges are a list, not {_kind(found)}")
            return []
        edges = [self._value(Edge, item, f"edges[{number}]") for number, item in enumerate(found)]
        return [edge for edge in edges if isinstance(edge, Edge)]

    def _object(
        self, kind: type[T], item: Mapping[str, Any], place: str, known: frozenset[str] = frozenset()
    ) -> T | None:
        """Build a dataclass; every unknown, missing or ill-typed field is a problem."""
        hints, before = _hints(cast("Hashable", kind)), len(self.problems)
        wanted = {field.name: field for field in fields(kind) if field.name not in known}  # type: ignore[arg-type]
        for key in item:
            if key not in wanted:
                near = get_close_matches(str(key), list(wanted), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self.problem(f"{place}.{key}".strip("."), f"{key!r} is unknown here{hint}", "unknown_key")
        values = {}
        for name, field in wanted.items():
            if name in item:
                values[name] = self._value(hints[name], item[name], f"{place}.{name}".strip("."))
            elif field.default is MISSING and field.default_factory is MISSING:
                self.problem(place, f"{name!r} is missing", "missing_key")
        return kind(**values) if len(self.problems) == before else None

    def _value(self, hint: Any, value: Any, place: str) -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
        if origin in (Union, UnionType):
            return self._union(inner, value, place)
        if origin is Literal:
            return self._literal(inner, value, place)
        if origin is tuple:
            return self._list(inner[0], value, place)
        if origin is Mapping:
            return self._mapping(inner[1], value, place)
        if is_dataclass(hint):
            return self._nested(hint, value, place)
        return self._scalar(hint, value, place)

    def _union(self, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
        if value is None and NoneType in kinds:
            return None
        kinds = tuple(kind for kind in kinds if kind is not NoneType)
        for kind in kinds:
            if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, bool):
                return value
        return self._value(kinds[0], value, place)

    def _literal(self, allowed: tuple[Any, ...], value: Any, place: str) -> Any:
        if value not in allowed:
            self.problem(place, f"{value!r} is unknown; allowed: {', '.join(map(str, allowed))}", "unknown_value")
        return value

    def _list(self, kind: Any, value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            self.problem(place, f"a list is expected, not {_kind(value)}")
            return ()
        return tuple(self._value(kind, item, f"{place}[{number}]") for number, item in enumerate(value))

    def _mapping(self, kind: Any, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            self.problem(place, f"an object is expected, not {_kind(value)}")
            return {}
        return {key: self._value(kind, item, f"{place}.{key}") for key, item in value.items()}

    def _nested(self, kind: Any, value: Any, place: str) -> Any:
        if not isinstance(value, Mapping):
            self.problem(place, f"an object is expected, not {_kind(value)}")
            return None
        return self._object(kind, value, place)

    def _scalar(self, kind: Any, value: Any, place: str) -> Any:
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if number or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        self.problem(place, f"{_NAMES.get(kind, kind.__name__)} is expected, not {_kind(value)}")
        return value


_NAMES: Final = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return _NAMES.get(type(value), type(value).__name__)


Marks = Mapping[str, tuple[int, int]]


def _parse(source: str) -> tuple[Any, Marks]:
    """The document, and the line and column of every place in it."""
    if source.lstrip().startswith("{"):
        document = parse_json(source, max_bytes=MAX_BYTES)
    try:
        tree = yaml.compose(source, Loader=_Loader)
        if not source.lstrip().startswith("{"):
            document = yaml.load(source, Loader=_Loader)  # noqa: S506 - a SafeLoader, see below
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        text = getattr(error, "problem", None) or str(error)
        raise InvalidInput(f"Line {line}, column {column}: {text}", line=line, column=column) from error
    except RecursionError as error:
        raise InvalidInput("The definition is nested too deeply.", line=0, column=0) from error
    marks: dict[str, tuple[int, int]] = {}
    if tree is not None:
        _mark(tree, "", marks)
    return _checked(document), marks


class _Loader(yaml.SafeLoader):
    """YAML without aliases (which can grow without bound), dates (JSON has none) and double keys."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _checked(document: Any) -> Any:
    encode(document, max_bytes=MAX_BYTES)
    return document


def _mark(node: yaml.Node, place: str, marks: dict[str, tuple[int, int]]) -> None:
    marks[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{place}.{key.value}".strip(".")
            _mark(value, inner, marks)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            inner = f"{place}[{number}]"
            _mark(item, inner, marks)
            if place == "steps":
                _mark(item, _named(item, inner), marks)


def _named(node: yaml.Node, otherwise: str) -> str:
    """A step's place goes by its name where it has one, as problems name it."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "name" and isinstance(value, yaml.ScalarNode):
            return f"steps.{value.value}"
    return otherwise


def locate(problems: Iterable[Problem], marks: Marks) -> tuple[Problem, ...]:
    """The problems in reading order, with the line and column of their place, or of what is around it."""
    placed = []
    for problem in problems:
        line, column = _position(problem.place, marks)
        placed.append(replace(problem, line=line, column=column))
    return tuple(sorted(placed, key=lambda problem: (problem.line, problem.column)))


def _position(place: str, marks: Marks) -> tuple[int, int]:
    while place and place not in marks:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    return marks.get(place, (1, 1))
