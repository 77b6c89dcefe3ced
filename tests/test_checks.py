from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, connections

from django_workflows import approval, checks, group, machine, services
from django_workflows.models import WorkflowDefinition

GOOD = {"orm": "default", "workers": 2, "queue_limit": 2, "bulk": 1, "timeout": 60, "retry": 300, "ack_failures": True}


def ids(messages: Any) -> list[str]:
    return sorted(message.id for message in messages)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("WORKFLOWS_COLOUR", 1, "workflows.E001"),
        ("WORKFLOWS_MAX_PAYLOAD_BYTES", "1", "workflows.E002"),
        ("WORKFLOWS_MODULES", "one", "workflows.E002"),
        ("WORKFLOWS_MODULES", [1], "workflows.E002"),
        ("WORKFLOWS_FALLBACK_GROUP", None, "workflows.E002"),
        ("WORKFLOWS_LEASE_SECONDS", True, "workflows.E002"),
        ("WORKFLOWS_TICK_SECONDS", 0, "workflows.E003"),
        ("WORKFLOWS_MAX_RECOVERY_ATTEMPTS", -1, "workflows.E003"),
        ("WORKFLOWS_RETENTION", "long", "workflows.E009"),
        ("WORKFLOWS_EVENT_SOFT_LIMIT", 50_000, "workflows.E010"),
        ("WORKFLOWS_MANAGER_OF", "no.where", "workflows.E004"),
        ("WORKFLOWS_EXECUTOR", "celery", "workflows.E004"),
    ],
)
def test_a_wrong_setting_is_an_error_with_a_hint(settings: Any, name: str, value: Any, code: str) -> None:
    setattr(settings, name, value)

    (message,) = checks.check_settings(None)

    assert message.id == code
    assert message.hint


def test_right_settings_are_silent(settings: Any) -> None:
    settings.WORKFLOWS_TICK_SECONDS = 2
    settings.WORKFLOWS_MODULES = ["tests.app.workflows"]

    assert checks.check_settings(None) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"orm": "other"}, "workflows.W002"),
        ({"timeout": None}, "workflows.W003"),
        ({"retry": 120}, "workflows.W004"),
        ({"queue_limit": 50}, "workflows.W004"),
        ({"ack_failures": False}, "workflows.W005"),
    ],
)
def test_a_queue_that_would_run_jobs_twice_or_never_is_warned_of(
    settings: Any, change: dict[str, Any], code: str
) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    settings.Q_CLUSTER = {**GOOD, **change}

    assert ids(checks.check_queue(None)) == [code]


def test_a_good_queue_and_other_executors_are_silent(settings: Any) -> None:
    settings.Q_CLUSTER = {}
    assert checks.check_queue(None) == []
    settings.WORKFLOWS_EXECUTOR, settings.Q_CLUSTER = "django_q", GOOD
    assert checks.check_queue(None) == []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_q"]
    assert ids(checks.check_queue(None)) == ["workflows.E007"]


def test_databases_without_the_law_are_refused_and_deferred_sqlite_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert checks.check_database(None) == []
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    expected = ["workflows.W001"] if connection.vendor == "sqlite" else []
    assert ids(checks.check_database(None)) == expected
    monkeypatch.setattr(type(connections["default"]), "vendor", "mysql")
    assert ids(checks.check_database(None)) == ["workflows.E006"]


def test_a_class_that_is_no_sound_workflow_is_an_error(make_workflow: Any) -> None:
    make_workflow(ask=approval(assign=group("a"), due="soon"))
    make_workflow("other", one=machine(lambda ctx: None))

    assert ids(checks.check_definitions(None)) == ["workflows.E005", "workflows.E005"]


def quick(ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("executor", "timeout", "expected"),
    [
        ("immediate", "5s", ["workflows.W007"]),
        ("django_q", "2m", ["workflows.W008"]),
        ("django_q", "5s", []),
        ("recording", "2m", []),
    ],
)
def test_a_timeout_that_cannot_be_kept_is_warned_of(
    settings: Any, make_workflow: Any, executor: str, timeout: str, expected: list[str]
) -> None:
    settings.WORKFLOWS_EXECUTOR = executor
    settings.Q_CLUSTER = GOOD
    make_workflow(name="checked", work=machine(quick, timeout=timeout))

    assert ids(checks.check_definitions(None)) == expected


def test_armed_failpoints_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ARMED", {"F2": 1})

    assert ids(checks.check_settings(None)) == ["workflows.W006"]


@pytest.mark.django_db
def test_drift_is_told_even_where_what_is_published_cannot_be_read(make_workflow: Any) -> None:
    services.publish(make_workflow(name="checked", work=machine(quick)), by=services.SYSTEM)
    WorkflowDefinition.objects.update(content={"nonsense": 1}, content_hash="another")

    (message,) = checks.check_drift(None, databases=["default"])

    assert "cannot be read any more" in message.msg
