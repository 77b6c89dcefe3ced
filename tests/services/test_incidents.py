from __future__ import annotations

from typing import Any

import pytest

from django_workflows import approval, end, group, machine, services
from django_workflows.exceptions import InvalidInput, NotAuthorized, NotFound, TransitionNotAllowed
from django_workflows.models import Incident
from django_workflows.testing import assert_log_gives_state, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def make_instance(make_many: Any) -> Any:
    return make_many("incidents")


def needs_iban(ctx: Any) -> str:
    if not ctx.get("iban"):
        raise ValueError("no IBAN")
    return str(ctx.get("iban"))


@pytest.fixture
def stopped(make_instance: Any) -> Any:
    def make() -> Any:
        instance = make_instance(pay=machine(needs_iban), done=end("paid"))
        run_jobs()
        instance.refresh_from_db()
        return instance

    return make


@pytest.mark.parametrize(
    ("action", "options", "status", "output"),
    [
        pytest.param("retry", {"data": {"iban": "NL91"}}, "completed", "NL91", id="retry with edited data"),
        pytest.param("retry", {}, "waiting", None, id="retry that fails again"),
        pytest.param("skip", {"reason": "by hand", "output": {"x": 1}}, "completed", {"x": 1}, id="skip"),
        pytest.param("fail", {"reason": "hopeless"}, "failed", None, id="fail"),
    ],
)
def test_an_incident_is_resolved(
    make_user: Any, stopped: Any, action: str, options: Any, status: str, output: Any
) -> None:
    root, instance = make_user("root", is_superuser=True), stopped()

    services.resolve(Incident.objects.get(), action, by=root, **options)
    run_jobs()

    instance.refresh_from_db()
    assert instance.status == status
    incident = Incident.objects.get()
    if status == "waiting":
        assert (incident.status, incident.count) == ("open", 2)
    else:
        assert (incident.status, incident.resolved_by_name) == ("resolved", "root")
    if output is not None:
        assert instance.results["pay"]["output"] == output
    assert_log_gives_state(instance)


@pytest.mark.parametrize(
    ("action", "options", "error"),
    [
        ("mend", {}, InvalidInput),
        ("skip", {"reason": " "}, InvalidInput),
        ("fail", {}, InvalidInput),
        ("retry", {"output": 1}, InvalidInput),
        ("skip", {"reason": "x", "data": {"a": 1}}, InvalidInput),
        ("retry", {"data": {"a": object()}}, InvalidInput),
        ("skip", {"reason": "x", "outcome": "nonsense"}, TransitionNotAllowed),
        ("dismiss", {"reason": "never mind"}, TransitionNotAllowed),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    stopped: Any, action: str, options: Any, error: type[Exception]
) -> None:
    instance = stopped()

    with pytest.raises(error):
        services.resolve(Incident.objects.get(), action, by=services.SYSTEM, **options)

    sequence = instance.sequence
    instance.refresh_from_db()
    assert (instance.sequence, Incident.objects.get().status) == (sequence, "open")


def test_only_an_administrator_resolves_and_only_once(make_user: Any, stopped: Any) -> None:
    stopped()
    incident = Incident.objects.get()

    with pytest.raises(NotAuthorized):
        services.resolve(incident, "retry", by=make_user("ann"))
    with pytest.raises(NotFound):
        services.resolve("none", "retry", by=services.SYSTEM)
    services.resolve(incident, "fail", by=services.SYSTEM, reason="enough")
    with pytest.raises(TransitionNotAllowed, match="resolved"):
        services.resolve(incident, "retry", by=services.SYSTEM)


def test_all_of_one_cause_are_resolved_and_what_is_refused_is_reported(make_user: Any, stopped: Any) -> None:
    instances = [stopped() for _ in range(4)]
    services.pause(instances[0], by=services.SYSTEM)
    fingerprint = Incident.objects.values_list("fingerprint", flat=True).distinct().get()

    counted = services.resolve_all(fingerprint, "skip", by=services.SYSTEM, reason="x", dry_run=True)
    stranger = services.resolve_all(fingerprint, "skip", by=make_user("ann"), reason="x")
    few = services.resolve_all(fingerprint, "retry", by=services.SYSTEM, data={"iban": "NL91"}, limit=2)
    rest = services.resolve_all(fingerprint, "retry", by=services.SYSTEM, data={"iban": "NL91"})
    run_jobs()

    assert (counted.found, counted.done, stranger.found) == (4, 0, 0)
    assert (few.found, few.done) == (2, 1)
    assert "paused" in few.refused[0][1]
    assert (rest.found, rest.done) == (3, 2)
    assert sorted(type(i).objects.get(pk=i.pk).status for i in instances) == ["completed"] * 3 + ["paused"]


def test_an_incident_that_stops_nothing_can_be_dismissed(make_user: Any, make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_FALLBACK_GROUP = "office"
    make_user("maria", "office")
    instance = make_instance(ask=approval(assign=group("nobody")))
    incident = Incident.objects.get()
    assert not incident.blocking

    services.resolve(incident, "dismiss", by=services.SYSTEM, reason="the office does it")

    incident.refresh_from_db()
    assert (incident.status, incident.resolution) == ("resolved", "dismissed: the office does it")
    assert_log_gives_state(instance)
