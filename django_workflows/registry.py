"""What code has registered, by name: workflows, and the functions that steps may call.

Stored definitions can use nothing but what stands here; no dotted path ever comes from data.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from django_workflows.conf import settings
from django_workflows.core.authoring import ON_DEFINED, Workflow, compile_workflow, workflow_name
from django_workflows.core.definition import Definition
from django_workflows.core.validation import ensure_valid
from django_workflows.core.versions import version_key
from django_workflows.exceptions import DefinitionConflict, DefinitionNotFound, FunctionNotRegistered

F = TypeVar("F", bound=Callable[..., Any])

_functions: dict[str, Callable[..., Any]] = {}
_names: dict[Callable[..., Any], str] = {}
_workflows: dict[tuple[str, str], type[Workflow]] = {}
_compiled: dict[type[Workflow], Definition] = {}
_lock = threading.RLock()


# functions


@overload
def step_function(function: F, /) -> F: ...
@overload
def step_function(*, name: str) -> Callable[[F], F]: ...
def step_function(function: F | None = None, /, *, name: str = "") -> F | Callable[[F], F]:
    """Register a function that steps may call, under its own name or the one given."""

    def register(target: F) -> F:
        register_function(target, name or target.__name__)
        return target

    return register(function) if function is not None else register


def register_function(function: Callable[..., Any], name: str) -> None:
    """Raises ``DefinitionConflict`` if the name means another function, ``TypeError`` if it is no function."""
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called.")
    with _lock:
        holder = _functions.get(name)
        if holder is not None and not _same(holder, function):
            raise DefinitionConflict(
                f"The function name {name!r} is taken by {holder.__module__}.{holder.__qualname__}.",
                name=name,
            )
        _functions[name] = function
        _names[function] = name


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """The same function, perhaps imported twice under a reload."""
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def function_named(name: str) -> Callable[..., Any]:
    """The registered function; raises ``FunctionNotRegistered``."""
    try:
        return _functions[name]
    except KeyError:
        raise FunctionNotRegistered(
            f"No function is registered as {name!r}; decorate it with @step_function.", name=name
        ) from None


def has_function(name: str) -> bool:
    return name in _functions


def function_names() -> tuple[str, ...]:
    return tuple(sorted(_functions))


# workflows


def register(workflow: type[Workflow]) -> type[Workflow]:
    """Make a class known; its body is compiled when it is first asked for.

    Raises ``DefinitionConflict`` if another class holds the same name and version.
    """
    key = (workflow_name(workflow), str(getattr(workflow, "version", "1")))
    with _lock:
        holder = _workflows.get(key)
        if holder is not None and (holder.__module__, holder.__qualname__) != (
            workflow.__module__,
            workflow.__qualname__,
        ):
            raise DefinitionConflict(
                f"{key[0]!r} version {key[1]} is {holder.__module__}.{holder.__qualname__} already; "
                f"raise the version of {workflow.__qualname__}.",
                name=key[0],
                version=key[1],
            )
        _workflows[key] = workflow
    return workflow


def unregister(name: str, version: str | None = None) -> None:
    """Forget one version of a name, or all of them; ``DefinitionNotFound`` if there is none."""
    gone = [key for key in _workflows if key[0] == name and version in (None, key[1])]
    if not gone:
        raise _missing(name, version)
    for key in gone:
        _compiled.pop(_workflows.pop(key), None)


def clear() -> None:
    """Forget every workflow (for tests); functions stay."""
    _workflows.clear()
    _compiled.clear()


def versions(name: str) -> tuple[str, ...]:
    """The registered versions of a name, the oldest first."""
    return tuple(sorted((version for found, version in _workflows if found == name), key=version_key))


def names() -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in _workflows}))


def has(name: str, version: str | None = None) -> bool:
    return any(found == name and version in (None, number) for found, number in _workflows)


def get(name: str, version: str | None = None) -> type[Workflow]:
    """The class of that name and version, by default the newest; raises ``DefinitionNotFound``."""
    found = versions(name)
    if not found or (version is not None and version not in found):
        raise _missing(name, version)
    return _workflows[name, version or found[-1]]


def _missing(name: str, version: str | None) -> DefinitionNotFound:
    which = f" version {version}" if version else ""
    known = ", ".join(names()) or "none"
    return DefinitionNotFound(f"No workflow {name!r}{which} is registered; known: {known}.", name=name, version=version)


def workflows() -> Iterator[type[Workflow]]:
    """Every registered class, by name, the oldest version first."""
    for name in names():
        for version in versions(name):
            yield _workflows[name, version]


def definition_of(workflow: type[Workflow]) -> Definition:
    """The class compiled and validated, once; raises ``InvalidDefinition`` or ``TypeError``."""
    compiled = _compiled.get(workflow)
    if compiled is None:
        compiled = compile_workflow(workflow, lambda function: _name_for(function, workflow_name(workflow)))
        ensure_valid(compiled)
        ensure_functions(compiled)
        _compiled[workflow] = compiled
    return compiled


def _name_for(function: Callable[..., Any], workflow: str) -> str:
    """The name a function is registered under; one that is not yet is registered for this workflow."""
    if function in _names:
        return _names[function]
    own = getattr(function, "__name__", "")
    if not own.isidentifier():
        raise TypeError(
            f"{function!r} in the workflow {workflow!r} has no name to be stored under; "
            "use a named function, or register it with @step_function(name=…)."
        )
    name = f"{workflow}.{own}"
    register_function(function, name)
    return name


def ensure_functions(definition: Definition) -> None:
    """Raise ``FunctionNotRegistered`` for the first function name that code has not registered."""
    for _place, name in function_references(definition):
        function_named(name)


def function_references(definition: Definition) -> Iterator[tuple[str, str]]:
    """The place and the name of every function the definition uses."""
    for step in definition.steps:
        for field in step.functions:
            if name := getattr(step, field):
                yield f"steps.{step.name}.{field}", name
        assignment = getattr(step, "assign", None)
        if assignment is not None and assignment.function:
            yield f"steps.{step.name}.assign.function", assignment.function


# discovery


def autodiscover() -> None:
    """Import each app's ``workflows.py`` and the modules of ``WORKFLOWS_MODULES``."""
    autodiscover_modules("workflows")
    for module in settings.MODULES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImproperlyConfigured(f"WORKFLOWS_MODULES names {module!r}, which fails: {error}") from error


ON_DEFINED.append(register)
