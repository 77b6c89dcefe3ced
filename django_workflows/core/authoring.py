"""How people write workflows: a class whose body reads as a drawing.

    class Leave(Workflow):
        ask  = approval(assign=group("team-leads"), due="3d")
        book = machine(book_leave, mode="inline")
        flow = [ask >> book]

``compile()`` gives the frozen ``Definition``. Without ``flow`` the steps form a chain in the order
they are written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias, Union

from .definition import Definition, Edge, Step
from .human_tasks import Quorum
from .retry import Retry
from .steps import STEP_TYPES, Assignment

Target: TypeAlias = Union["StepDraft", "Flow"]

#: Class attributes that become fields of the definition.
HEAD = tuple(item.name for item in fields(Definition) if item.name not in ("steps", "edges", "initial"))


@dataclass(eq=False)
class StepDraft:
    """A step while the class body is being read; it learns its name from the attribute it is bound to."""

    kind: str
    options: dict[str, Any]
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name and self.name != name:
            raise TypeError(f"One step cannot be bound to two names, {self.name!r} and {name!r}.")
        self.name = name

    def __rshift__(self, target: Target | Sequence[Target]) -> Flow:
        return Exit(self) >> target

    def __rrshift__(self, sources: Sequence[Target | Exit]) -> Flow:
        """``[a.on("approved"), b] >> c``: each of them leads here."""
        return _gathered(sources) >> self

    def on(self, outcome: str, *, label: str = "") -> Exit:
        """The way out for one outcome."""
        return Exit(self, outcome=outcome, label=label)

    @property
    def on_failure(self) -> Exit:
        """The way out when the step has failed for good."""
        return Exit(self, outcome="failed")

    def when(self, condition: str, *, label: str = "") -> Exit:
        """The way out of a gateway while an expression is true."""
        return Exit(self, condition=condition, label=label)

    @property
    def otherwise(self) -> Exit:
        """The way out of a gateway when no condition is true."""
        return Exit(self, otherwise=True)

    def build(self, name_of: Callable[[Any], str]) -> Step:
        """The frozen step; ``name_of`` gives the registered name of a function."""
        step_class = STEP_TYPES[self.kind]
        options = {
            key: name_of(value) if key in step_class.functions and callable(value) else value
            for key, value in self.options.items()
        }
        assign = options.get("assign")
        if isinstance(assign, Assignment) and callable(assign.function):
            options["assign"] = _with_function_name(assign, name_of)
        return step_class(name=self.name, **options)


def _with_function_name(assign: Assignment, name_of: Callable[[Any], str]) -> Assignment:
    values = {item.name: getattr(assign, item.name) for item in fields(assign)}
    return Assignment(**{**values, "function": name_of(assign.function)})


@dataclass(eq=False)
class Exit:
    """A way out of a step, waiting for its target."""

    step: StepDraft
    outcome: str = ""
    condition: str = ""
    otherwise: bool = False
    label: str = ""

    def __rshift__(self, target: Target | Sequence[Target]) -> Flow:
        return Flow([self.step], [], [self]) >> target


@dataclass(eq=False)
class Flow:
    """A piece of the drawing: edges, and the ways out that are still open at its end."""

    heads: list[StepDraft]
    edges: list[tuple[Exit, StepDraft]]
    open: list[Exit] = field(default_factory=list)

    def __rshift__(self, target: Target | Sequence[Target]) -> Flow:
        """Lead every open end to the target; a list of targets means each of them."""
        edges, ends = list(self.edges), []
        for one in [target] if isinstance(target, (StepDraft, Flow)) else target:
            flow = _as_flow(one)
            edges += [(end, head) for end in self.open for head in flow.heads]
            edges += flow.edges
            ends += flow.open
        return Flow(self.heads, edges, ends)


def _gathered(sources: Sequence[Target | Exit]) -> Flow:
    """Several beginnings with their open ends, as one flow."""
    parts = [Flow([one.step], [], [one]) if isinstance(one, Exit) else _as_flow(one) for one in sources]
    return Flow(
        [head for part in parts for head in part.heads],
        [edge for part in parts for edge in part.edges],
        [end for part in parts for end in part.open],
    )


def _as_flow(target: Target) -> Flow:
    if isinstance(target, Flow):
        return target
    if isinstance(target, StepDraft):
        return Flow([target], [], [Exit(target)])
    raise TypeError(f"A flow leads to steps, not to {target!r}.")


class Workflow:
    """Base of workflow classes. Set ``abstract = True`` on a base that is no workflow itself.

    Class attributes that are fields of ``Definition`` (``name``, ``version``, ``title`` …) are
    taken over; the name defaults to the class name in kebab case, the description to the docstring.
    """

    abstract: ClassVar[bool] = True
    flow: ClassVar[Sequence[Flow | StepDraft]] = ()
    initial: ClassVar[StepDraft | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__dict__.get("abstract", False):
            cls.abstract = False
            for listener in ON_DEFINED:
                listener(cls)


#: Called with every concrete workflow class as it is defined; the registry listens.
ON_DEFINED: list[Callable[[type[Workflow]], object]] = []


def drafts(workflow: type[Workflow]) -> dict[str, StepDraft]:
    """The steps of a class in the order they are written, those of its bases first."""
    found: dict[str, StepDraft] = {}
    for base in reversed(workflow.__mro__):
        for name, value in vars(base).items():
            if name in HEAD and isinstance(value, StepDraft):
                raise TypeError(f"{workflow.__name__}.{name} says what the workflow is; call the step otherwise.")
            if isinstance(value, StepDraft) and name != "initial":
                found[name] = value
    return found


def compile_workflow(workflow: type[Workflow], name_of: Callable[[Any], str]) -> Definition:
    """The definition of a class. ``name_of`` gives the name a function is registered under.

    Raises ``TypeError`` for a body that cannot be read; what is merely wrong is left to validation.
    """
    written = drafts(workflow)
    arrows = _edges(workflow, written)
    for exit_, target in arrows:
        for draft in (exit_.step, target):
            if written.get(draft.name) is not draft:
                raise TypeError(f"{workflow.__name__}.flow uses a step that is no attribute of the class.")
    head: dict[str, Any] = {name: _head_value(workflow, name) for name in HEAD if hasattr(workflow, name)}
    head["name"] = workflow_name(workflow)
    head["description"] = head.get("description") or inspect.cleandoc(workflow.__dict__.get("__doc__") or "")
    return Definition(
        **head,
        steps=tuple(draft.build(name_of) for draft in written.values()),
        edges=tuple(_edge(exit_, target) for exit_, target in arrows),
        initial=_initial(workflow, written, arrows),
    )


def _edge(exit_: Exit, target: StepDraft) -> Edge:
    return Edge(
        source=exit_.step.name,
        target=target.name,
        outcome=exit_.outcome,
        condition=exit_.condition,
        otherwise=exit_.otherwise,
        label=exit_.label,
    )


def _head_value(workflow: type[Workflow], name: str) -> Any:
    value = getattr(workflow, name)
    return tuple(value) if isinstance(value, list) else value


def workflow_name(workflow: type[Workflow]) -> str:
    """The declared name, or the class name in kebab case."""
    declared = workflow.__dict__.get("name")
    if isinstance(declared, str):
        return declared
    name = workflow.__name__
    parts = ["-" + char.lower() if char.isupper() and index else char.lower() for index, char in enumerate(name)]
    return "".join(parts)


def _edges(workflow: type[Workflow], written: Mapping[str, StepDraft]) -> list[tuple[Exit, StepDraft]]:
    if not workflow.flow:
        steps = list(written.values())
        return [(Exit(before), after) for before, after in pairwise(steps)]
    edges: dict[tuple[Any, ...], tuple[Exit, StepDraft]] = {}
    for piece in workflow.flow:
        for exit_, target in _as_flow(piece).edges:
            key = (exit_.step.name, exit_.outcome, exit_.condition, exit_.otherwise, target.name)
            edges.setdefault(key, (exit_, target))
    return list(edges.values())


def _initial(
    workflow: type[Workflow], written: Mapping[str, StepDraft], edges: Sequence[tuple[Exit, StepDraft]]
) -> str:
    """The declared initial step, or the first that the flow names, or the first that is written."""
    if workflow.initial is not None:
        return workflow.initial.name
    if edges:
        return edges[0][0].step.name
    return next(iter(written), "")


# step constructors


def step(type: str, /, **options: Any) -> StepDraft:
    """A step of any registered type, with that type's fields."""
    if type not in STEP_TYPES:
        raise TypeError(f"{type!r} is no step type; registered: {', '.join(sorted(STEP_TYPES))}.")
    known = {item.name for item in fields(STEP_TYPES[type])} - {"name"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(f"{type}() has no {', '.join(unknown)}; it takes {', '.join(sorted(known))}.")
    return StepDraft(type, {key: _frozen(key, value) for key, value in options.items()})


def _frozen(key: str, value: Any) -> Any:
    """Lists become tuples where the field is a tuple; a lone name counts as a list of one."""
    if isinstance(value, list) or (
        isinstance(value, str) and key in ("exclude", "remind", "merge", "comment_required")
    ):
        return (value,) if isinstance(value, str) else tuple(value)
    return value


def machine(function: Callable[..., Any] | str, /, **options: Any) -> StepDraft:
    """A step that calls ``function(ctx, **arguments)``: a function, or the name it is registered under."""
    return step("machine", function=function, **options)


def human(*, assign: AssignLike, **options: Any) -> StepDraft:
    """A question with one answer, by default the outcome ``completed``."""
    return step("human", assign=as_assignment(assign), **options)


def approval(*, assign: AssignLike, quorum: Quorum | int | str | None = None, **options: Any) -> StepDraft:
    """A vote, by default ``approved`` or ``rejected`` by the first answer.

    ``quorum`` is a number of people, ``"any"``, ``"all"``, a percentage such as ``"60%"``, or a ``Quorum``.
    """
    if quorum is not None:
        options["quorum"] = as_quorum(quorum)
    return step("approval", assign=as_assignment(assign), **options)


def decision(**options: Any) -> StepDraft:
    """The exclusive gateway: ``route.when("data.amount > 100.0") >> a``, ``route.otherwise >> b``."""
    return step("decision", **options)


def fork(**options: Any) -> StepDraft:
    """The parallel gateway's opening half: every way out is taken, unless its ``when`` is false."""
    return step("fork", **options)


def join(wait: str | int = "all", **options: Any) -> StepDraft:
    """The closing half: waits for ``"all"`` branches, ``"any"`` one, or a number of them."""
    if isinstance(wait, int):
        return step("join", wait="count", count=wait, **options)
    return step("join", wait=wait, **options)


def timer(duration: str | float = "", /, *, until: str | Callable[..., Any] = "", **options: Any) -> StepDraft:
    """Waits for a duration, or ``until`` what an expression or a function gives."""
    if callable(until):
        return step("timer", function=until, **options)
    return step("timer", duration=_written(duration), until=until, **options)


def _written(duration: str | float) -> str:
    return duration if isinstance(duration, str) else f"{duration}s"


def end(outcome: str = "", **options: Any) -> StepDraft:
    """Where a way ends; ``terminate=True`` ends everything else too."""
    return step("end", outcome=outcome, **options)


# assignment


def user(*names: str) -> Assignment:
    """These users, by user name."""
    return Assignment(users=names)


def group(*names: str, membership: str = "live") -> Assignment:
    """The members of these groups."""
    return Assignment(groups=names, membership=membership)


def expression(text: str) -> Assignment:
    """Whom an expression names: ``expression("data.approver")``."""
    return Assignment(expression=text)


def function(name: Callable[..., Any] | str, /, **arguments: Any) -> Assignment:
    """Whom a registered function names: called as ``function(ctx, **arguments)``."""
    return Assignment(function=name, arguments=arguments)  # type: ignore[arg-type]


def initiator() -> Assignment:
    """Who started the instance."""
    return Assignment(expression="instance.initiator")


def manager_of(whom: str = "initiator") -> Assignment:
    """The manager of the initiator, or of who decided the named step (setting ``WORKFLOWS_MANAGER_OF``)."""
    return Assignment(function="manager_of", arguments={"whom": whom})


AssignLike: TypeAlias = Assignment | Callable[..., Any] | Iterable[Assignment]


def as_assignment(value: AssignLike) -> Assignment:
    """An assignment, a function, or several assignments that add up."""
    if isinstance(value, Assignment):
        return value
    if callable(value):
        return function(value)
    if not isinstance(value, (list, tuple)):
        raise TypeError(f'assign={value!r} does not say who that is; write user("{value}") or group("{value}").')
    total = Assignment()
    for part in value:
        total = total | as_assignment(part)
    return total


def as_quorum(value: Quorum | int | str) -> Quorum:
    """``2``, ``"all"``, ``"any"``, ``"60%"``; ``TypeError`` for anything else."""
    if isinstance(value, Quorum):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Quorum(kind="count", value=value)
    if value in ("any", "all"):
        return Quorum(kind="all" if value == "all" else "any")
    if isinstance(value, str) and value.endswith("%") and value[:-1].strip().isdigit():
        return Quorum(kind="percentage", value=int(value[:-1]))
    raise TypeError(f'quorum={value!r}; write a number of people, "any", "all" or a percentage such as "60%".')


__all__ = [
    "Quorum",
    "Retry",
    "Workflow",
    "approval",
    "decision",
    "end",
    "expression",
    "fork",
    "function",
    "group",
    "human",
    "initiator",
    "join",
    "machine",
    "manager_of",
    "step",
    "timer",
    "user",
]
