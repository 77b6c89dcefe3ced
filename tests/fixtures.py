"""Makers that many tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from django_workflows import Workflow, registry, services
from django_workflows.engine.executors import executor
from django_workflows.engine.executors.recording import RecordingExecutor


@pytest.fixture(autouse=True)
def no_jobs_left_over() -> Iterator[None]:
    yield
    current = executor()
    if isinstance(current, RecordingExecutor):
        current.jobs.clear()


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(name: str, *groups: str, **fields: Any) -> User:
        user = User.objects.create_user(name, password="secret", **fields)
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
        return user

    return make


@pytest.fixture
def make_workflow() -> Iterator[Callable[..., type[Workflow]]]:
    """A workflow class that is forgotten after the test: ``make_workflow(ask=approval(…), flow=…)``."""
    made: list[type[Workflow]] = []

    def make(name: str = "sample", **body: Any) -> type[Workflow]:
        for attribute, value in body.items():
            if hasattr(value, "__set_name__"):
                value.__set_name__(None, attribute)
        workflow = type("Sample", (Workflow,), {"name": name, "__qualname__": f"Sample{len(made)}", **body})
        made.append(workflow)
        return workflow

    yield make
    for workflow in made:
        name, version = workflow.__dict__["name"], str(getattr(workflow, "version", "1"))
        if registry.has(name, version):
            registry.unregister(name, version)


@pytest.fixture
def make_instance(make_workflow: Callable[..., type[Workflow]], db: None) -> Callable[..., Any]:
    """Publish a workflow with these steps and start it, by the system unless ``by=`` says otherwise."""

    def make(*, by: Any = services.SYSTEM, data: dict[str, Any] | None = None, **body: Any) -> Any:
        workflow = make_workflow(**body)
        services.publish(workflow, by=services.SYSTEM)
        return services.start(workflow, by=by, data=data)

    return make


@pytest.fixture
def make_many(make_instance: Callable[..., Any]) -> Callable[[str], Callable[..., Any]]:
    """``make_many("orders")`` makes instances as ``make_instance`` does, and of an equal workflow another one."""
    known: dict[str, str] = {}

    def of(name: str) -> Callable[..., Any]:
        def make(*, data: dict[str, Any] | None = None, **body: Any) -> Any:
            options = {key: value for key, value in body.items() if not hasattr(value, "__set_name__")}
            alike = repr((name, sorted(body), options))
            if alike in known:
                return services.start(known[alike], by=services.SYSTEM, data=data)
            known[alike] = name if not known else f"{name}-{len(known)}"
            return make_instance(name=known[alike], data=data, **body)

        return make

    return of
