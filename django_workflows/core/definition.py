"""The compiled drawing: steps and edges, frozen and equal by value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from .commands import AnswerFunction
    from .run import Run
    from .snapshot import Token
    from .validation import Problem

_FILLED_IN: Final = re.compile(r"\s*\{\{.*?\}\}", re.DOTALL)

#: The outcome that ends the instance where no edge takes it up.
REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A box of the drawing; each step type is a subclass that says what entering the box does.

    ``condition`` and ``skip_if`` are expressions, ``guard`` the name of a registered function;
    a false condition, a true ``skip_if`` or a refusing guard skips the step, and the flow goes on.
    """

    type: ClassVar[str] = ""
    shape: ClassVar[str] = "box"
    #: Whether the step itself picks among its outgoing edges.
    chooses: ClassVar[bool] = False
    #: Whether something outside moves the step on, so that it may wait with neither task nor timer.
    waits_outside: ClassVar[bool] = False
    #: Fields that hold the name of a registered function.
    functions: ClassVar[tuple[str, ...]] = ("guard",)
    #: Fields that hold an expression, with the kind of value expected of it.
    expressions: ClassVar[Mapping[str, str]] = {"condition": "bool", "skip_if": "bool"}
    #: Fields that hold a template with ``{{ expressions }}``.
    templates: ClassVar[tuple[str, ...]] = ()

    name: str
    title: str = ""
    description: str = ""
    condition: str = ""
    skip_if: str = ""
    guard: str = ""

    @property
    def label(self) -> str:
        """What people call the box: its title without what is filled in for each instance."""
        title = _FILLED_IN.sub("", self.title).strip(" :,-–")
        return title or self.name.replace("_", " ").capitalize()

    def enter(self, run: Run, token: Token) -> None:
        """Do what reaching this box means; the token exists already."""
        raise TypeError(f"Step type {self.type!r} does not say what entering it does.")

    def timer_fired(self, run: Run, token: Token, timer: str) -> None:
        """React to a timer that this step armed."""

    def answered(self, run: Run, token: Token, answer: AnswerFunction) -> None:
        """Go on with the value of a function that this step asked for."""

    def outcomes_offered(self) -> tuple[str, ...]:
        """The outcomes an edge may be drawn for; empty if the step has none to tell apart."""
        return ()

    def problems(self, definition: Definition) -> Iterator[Problem]:
        """What is wrong with this box, beyond what validation looks at for every box."""
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow: taken for one ``outcome``, under a ``condition``, as the ``otherwise``, or always."""

    source: str
    target: str
    outcome: str = ""
    condition: str = ""
    otherwise: bool = False
    label: str = ""

    @property
    def text(self) -> str:
        """What to write beside the arrow."""
        return self.label or self.outcome or self.condition or ("otherwise" if self.otherwise else "")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One version of a workflow, ready to be run.

    ``data_schema`` (JSON Schema) is what start data must satisfy; ``outputs`` maps a name to the
    expression that gives its value at the end; ``start`` says who may start an instance:
    ``everyone`` who is signed in, or only who was ``granted`` it.

    A workflow that is not ``durable`` runs in one go and keeps its end only. ``max_duration`` is how
    long an instance may take before it fails, ``retention`` how long one that has ended is kept
    (durations; empty for no limit). ``max_recoveries`` says how often a step is taken up again after
    its worker was lost (``None``: the setting ``WORKFLOWS_MAX_RECOVERY_ATTEMPTS``; 0: never).
    ``max_active`` is how many instances may live at a time (0: any number).
    """

    name: str
    version: str = "1"
    title: str = ""
    description: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    edges: tuple[Edge, ...] = ()
    initial: str = ""
    start: str = "everyone"
    instance_title: str = ""
    max_visits: int = 100
    data_schema: Mapping[str, Any] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    sensitive: tuple[str, ...] = ()
    durable: bool = True
    max_duration: str = ""
    retention: str = ""
    max_recoveries: int | None = None
    max_active: int = 0

    @property
    def label(self) -> str:
        return self.title or self.name.replace("-", " ").replace("_", " ").capitalize()

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def exits(self) -> Mapping[str, tuple[Edge, ...]]:
        """Step name -> its outgoing edges, in drawing order."""
        found: dict[str, list[Edge]] = {step.name: [] for step in self.steps}
        for edge in self.edges:
            found.setdefault(edge.source, []).append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def entries(self) -> Mapping[str, tuple[Edge, ...]]:
        """Step name -> its incoming edges, in drawing order."""
        found: dict[str, list[Edge]] = {step.name: [] for step in self.steps}
        for edge in self.edges:
            found.setdefault(edge.target, []).append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    def step(self, name: str) -> Step:
        """The step of that name; ``KeyError`` if the drawing has none."""
        return self.by_name[name]

    def exit_for(self, name: str, outcome: str) -> Edge | None:
        """The edge an ordinary step leaves by: its outcome's own, else the plain one.

        The plain edge does not take up a rejection.
        """
        plain = None
        for edge in self.exits[name]:
            if edge.outcome == outcome and outcome:
                return edge
            if not edge.outcome and plain is None:
                plain = edge
        return None if outcome == REJECTED and REJECTED in self.by_name[name].outcomes_offered() else plain

    def next_steps(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(edge.target for edge in self.exits.get(name, ())))

    def previous_steps(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(edge.source for edge in self.entries.get(name, ())))

    def is_terminal(self, name: str) -> bool:
        return not self.exits[name]

    @cached_property
    def terminals(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps if not self.exits[step.name])

    def reachable(self, start: str | None = None) -> frozenset[str]:
        """Every step that can be reached from ``start`` (default: the initial step), itself included."""
        seen: set[str] = set()
        waiting = [start or self.initial]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.by_name:
                continue
            seen.add(name)
            waiting.extend(edge.target for edge in self.exits[name])
        return frozenset(seen)

    def paths(self, limit: int = 100) -> list[tuple[str, ...]]:
        """Up to ``limit`` ways from the initial step to a terminal one, no step twice on a way."""
        found: list[tuple[str, ...]] = []
        waiting: list[tuple[str, ...]] = [(self.initial,)]
        while waiting and len(found) < limit:
            path = waiting.pop()
            targets = self.next_steps(path[-1])
            if not targets:
                found.append(path)
            waiting.extend((*path, target) for target in reversed(targets) if target not in path)
        return found

    @property
    def depth(self) -> int:
        """The number of steps on the longest of the first hundred ways through."""
        return max((len(path) for path in self.paths()), default=0)
