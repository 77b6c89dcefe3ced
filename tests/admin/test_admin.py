from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_workflows import approval, end, group, human, machine, services, user
from django_workflows.engine import jobs, machine_steps
from django_workflows.engine.loader import definition_for
from django_workflows.models import HumanTask, Incident, StepExecution, WorkflowDefinition, WorkflowInstance

pytestmark = pytest.mark.django_db

FORM = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 0, "title": "Amount"},
        "kind": {"type": "string", "enum": ["train", "car"]},
        "urgent": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["amount"],
}
NASTY = "<script>alert(1)</script>"


def give_up(ctx: Any) -> None:
    raise ValueError(NASTY)


def client_of(who: Any) -> Client:
    client = Client()
    client.force_login(who)
    return client


def url(row: Any, act: str = "change") -> str:
    return reverse(f"admin:django_workflows_{row._meta.model_name}_{act}", args=[row.pk])


@pytest.fixture
def world(make_user: Any, make_instance: Any) -> dict[str, Any]:
    people = {name: make_user(name, is_staff=True) for name in ("ann", "sam", "operator")}
    people["maria"] = make_user("maria", "managers", is_staff=True)
    rights = ("administer_workflowdefinition", "publish_workflowdefinition")
    people["operator"].user_permissions.add(*Permission.objects.filter(codename__in=rights))
    ask = approval(assign=group("managers"), form=FORM, merge="amount", due="3d", title=NASTY)
    instance = make_instance(by=people["ann"], ask=ask, done=end("done"), data={"note": NASTY, "password": "geheim"})
    return {**people, "instance": instance, "task": HumanTask.objects.get(), "definition": instance.definition}


PAGES = ("instance", "task", "definition")


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_and_escape(world: Any, page: str) -> None:
    response = client_of(world["operator"]).get(url(world[page]))

    text = response.content.decode()
    assert response.status_code == 200
    assert NASTY not in text
    assert "geheim" not in text
    assert ('class="wf-drawing"' in text) is (page != "task")


@pytest.mark.parametrize("page", ["instance", "task"])
def test_a_stranger_of_the_staff_gets_404(world: Any, page: str) -> None:
    assert client_of(world["sam"]).get(url(world[page])).status_code == 404
    assert client_of(world["ann"]).get(url(world["instance"])).status_code == 200


def test_keys_that_are_none_are_404(world: Any) -> None:
    client = client_of(world["operator"])

    for model in ("workflowinstance", "humantask", "workflowdefinition", "incident"):
        for key in ("nonsense", "0192d5a0-0000-7000-8000-000000000000", "1' OR 1=1"):
            assert client.get(reverse(f"admin:django_workflows_{model}_change", args=[key])).status_code == 404


def test_nobody_adds_changes_or_deletes_rows(make_user: Any, world: Any) -> None:
    root = client_of(make_user("root", is_superuser=True, is_staff=True))

    for model in ("workflowinstance", "humantask", "workflowdefinition", "incident"):
        assert root.get(reverse(f"admin:django_workflows_{model}_add")).status_code == 403
    assert root.get(url(world["instance"], "delete")).status_code == 403


def test_who_is_no_superuser_but_may_administer_does_everything(world: Any) -> None:
    client, instance = client_of(world["operator"]), world["instance"]
    text = client.get(url(instance)).content.decode()
    assert url(instance, "pause") in text

    for act, status in (("pause", "paused"), ("resume", "waiting"), ("cancel", "canceled")):
        assert client.post(url(instance, act), {"reason": "audit"}).status_code == 302
        instance.refresh_from_db()
        assert instance.status == status


def test_without_the_right_there_are_no_buttons_and_a_forged_post_is_403(world: Any) -> None:
    client, instance = client_of(world["maria"]), world["instance"]

    text = client.get(url(instance)).content.decode()
    assert url(instance, "pause") not in text
    assert url(instance, "cancel") not in text
    for act in ("pause", "cancel", "fail"):
        assert client.post(url(instance, act), {"reason": "x"}).status_code == 403
    assert client.get(url(instance, "cancel")).status_code == 405
    instance.refresh_from_db()
    assert instance.status == "waiting"


def test_a_post_needs_the_token_against_forgery(world: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world["operator"])

    assert client.post(url(world["instance"], "cancel")).status_code == 403


def test_a_task_is_decided_with_field_errors_first(world: Any) -> None:
    client, task = client_of(world["maria"]), world["task"]

    refused = client.post(url(task, "decide"), {"outcome": "approved", "field-amount": "-5", "comment": "my words"})
    text = refused.content.decode()
    assert refused.status_code == 200
    assert "less than the minimum" in text
    assert "my words" in text
    assert 'value="-5"' in text
    accepted = client.post(
        url(task, "decide"),
        {
            "outcome": "approved",
            "field-amount": "12.5",
            "field-kind": "car",
            "field-day": "2026-03-01",
            "comment": "fine",
        },
    )

    assert accepted.status_code == 302
    instance = WorkflowInstance.objects.get(pk=world["instance"].pk)
    assert instance.results["ask"]["form"] == {"amount": 12.5, "kind": "car", "urgent": False, "day": "2026-03-01"}
    assert "my words" not in client.get(url(task)).content.decode()
    again = client.post(url(task, "decide"), {"outcome": "approved", "field-amount": "1"}, follow=True)
    assert "nobody can decide it any more" in again.content.decode()


def test_an_unknown_outcome_or_a_missing_comment_is_a_message(world: Any) -> None:
    response = client_of(world["maria"]).post(url(world["task"], "decide"), {"outcome": "x", "field-amount": "1"})

    assert "is no outcome of" in response.content.decode()


def test_claim_release_hand_on_and_comment(world: Any) -> None:
    client, task = client_of(world["maria"]), world["task"]

    client.post(url(task, "claim"))
    assert HumanTask.objects.get().assignee == world["maria"]
    client.post(url(task, "release"))
    client.post(url(task, "comment"), {"text": NASTY})
    assert NASTY not in client.get(url(task)).content.decode()
    unknown = client.post(url(task, "reassign"), {"user": "nobody", "reason": "x"}, follow=True)
    assert "There is no active user" in unknown.content.decode()
    client.post(url(task, "reassign"), {"user": "sam", "reason": "his field"})
    assert HumanTask.objects.get().assignee == world["sam"]


def test_an_incident_is_retried_and_skipped(world: Any, make_workflow: Any) -> None:
    broken = services.start(make_workflow("failing", one=machine(give_up), done=end("ok")), by=world["ann"])
    jobs.run("run_step", str(broken.pk), "one#1", 1)
    client, step = client_of(world["operator"]), StepExecution.objects.get(instance=broken)

    page = client.get(url(broken)).content.decode()
    assert NASTY not in page
    assert "Traceback" in page
    assert "Traceback" not in client_of(world["ann"]).get(url(broken)).content.decode()
    assert NASTY not in client.get(url(Incident.objects.get())).content.decode()
    client.post(url(broken, "retry"), {"execution": str(step.pk)})
    jobs.run("run_step", str(broken.pk), "one#1", 2)
    changelist = reverse("admin:django_workflows_incident_changelist")
    client.post(changelist, {"action": "retry_selected", "_selected_action": [str(Incident.objects.get().pk)]})
    jobs.run("run_step", str(broken.pk), "one#1", 3)
    assert Incident.objects.get().count == 3
    client.post(url(broken, "skip"), {"execution": "nonsense", "reason": "x"})
    client.post(url(broken, "skip"), {"execution": str(step.pk), "reason": "by hand"})

    assert WorkflowInstance.objects.get(pk=broken.pk).status == "completed"


def test_a_definition_is_published_retired_and_started(world: Any) -> None:
    client, page = client_of(world["operator"]), reverse("admin:django_workflows_workflowdefinition_import")

    assert (
        "line 3, column"
        in client.post(page, {"text": "name: x\nsteps:\n  - {name: a, type: nothing}\n"}).content.decode()
    )
    assert "errornote" in client.post(page, {"text": "{"}).content.decode()
    refused = client_of(world["ann"]).post(page, {"text": "name: y\nsteps: [{name: a, type: end}]"})
    assert "may not publish" in refused.content.decode()
    schema = "{type: object, properties: {amount: {type: number}}, required: [amount]}"
    client.post(page, {"text": f"name: y\ndata_schema: {schema}\nsteps: [{{name: a, type: end, outcome: ok}}]"})
    row = WorkflowDefinition.objects.get(name="y")
    assert "This field is required." in client.post(url(row, "start"), {}).content.decode()
    assert client.post(url(row, "start"), {"field-amount": "3"}).status_code == 302
    assert WorkflowInstance.objects.get(workflow="y").data == {"amount": 3}
    client.post(url(row, "retire"))
    client.post(url(row, "retire"))
    row.refresh_from_db()
    assert row.status == "retired"
    client.post(url(row, "reactivate"))


LISTS = ("workflowdefinition", "workflowinstance", "humantask", "incident")


@pytest.mark.parametrize("model", LISTS)
def test_lists_cost_the_same_for_one_row_and_for_fifty(world: Any, make_workflow: Any, model: str) -> None:
    page = reverse(f"admin:django_workflows_{model}_changelist")

    def cost() -> int:
        client = client_of(type(world["operator"]).objects.get(pk=world["operator"].pk))
        with CaptureQueriesContext(connection) as captured:
            assert client.get(page).status_code == 200
        return len(captured)

    services.start(make_workflow("lonely", ask=human(assign=group("nobody"))), by=world["ann"])
    cost()
    one = cost()
    for number in range(49):
        services.start("sample", by=world["ann"])
        services.start("lonely", by=world["ann"])
        services.publish(make_workflow(f"other{number}", ask=human(assign=user("maria"))), by=services.SYSTEM)

    assert cost() == one


@pytest.mark.parametrize(
    "query",
    ["humantask_changelist?mine=inbox", "humantask_changelist?mine=held", "humantask_changelist?overdue=yes",
     "workflowinstance_changelist?incidents=open", "workflowinstance_changelist?q=x", "humantask_changelist?q=x"],
)  # fmt: skip
def test_filters_and_searches_answer(world: Any, query: str) -> None:
    name, _, rest = query.partition("?")

    response = client_of(world["maria"]).get(reverse(f"admin:django_workflows_{name}") + "?" + rest)

    assert response.status_code == 200
    assert response.context["cl"].result_count == (1 if rest == "mine=inbox" else 0)


def test_incidents_are_resolved_one_by_one_and_all_of_a_cause(world: Any, make_workflow: Any) -> None:
    workflow = make_workflow("failing", one=machine(give_up), done=end("ok"))
    broken = [services.start(workflow, by=world["ann"]) for _ in range(3)]
    for instance in broken:
        jobs.run("run_step", str(instance.pk), "one#1", 1)
    client, stranger = client_of(world["operator"]), client_of(world["ann"])
    incident = Incident.objects.get(instance=broken[0])

    page = client.get(url(incident)).content.decode()
    assert "3 open incidents have this cause" in page
    assert "Resolve</h2>" not in stranger.get(url(incident)).content.decode()
    assert stranger.post(url(incident, "resolve"), {"action": "fail", "reason": "x"}).status_code == 403
    for wrong in (
        {"action": "skip"},
        {"action": "mend", "reason": "x"},
        {"action": "retry", "data": "{"},
        {"action": "retry", "data": "[1]"},
        {"action": "skip", "reason": "x", "outcome": "nonsense"},
    ):
        client.post(url(incident, "resolve"), wrong)
        assert Incident.objects.open().count() == 3, wrong
    client.post(url(incident, "resolve"), {"action": "skip", "reason": "by hand", "output": '{"paid": true}'})
    assert WorkflowInstance.objects.get(pk=broken[0].pk).results["one"]["output"] == {"paid": True}
    everywhere = {"action": "fail", "reason": "hopeless", "everywhere": "on"}
    client.post(url(Incident.objects.get(instance=broken[1]), "resolve"), everywhere)

    assert not Incident.objects.open().exists()
    assert client.get(url(incident)).status_code == 200


def test_an_instance_is_held_and_a_running_step_lets_it_be_canceled_later(world: Any, make_workflow: Any) -> None:
    instance = services.start(make_workflow("slow", one=machine(give_up)), by=world["ann"])
    machine_steps.claim(str(instance.pk), "one#1", 1)
    client = client_of(world["operator"])

    client.post(url(instance, "hold"), {"reason": "the court"})
    client.post(url(instance, "cancel"), {"reason": "not needed"})
    page = client.get(url(instance)).content.decode()
    assert "Under legal hold" in page
    assert "Cancellation was requested" in page
    client.post(url(instance, "lift"), {"reason": "settled"})
    client.post(url(instance, "cancel"), {"force": "on"})

    instance.refresh_from_db()
    assert (instance.status, instance.legal_hold) == ("canceled", False)


def test_pages_stand_when_the_definition_cannot_be_read_any_more(world: Any) -> None:
    instance = world["instance"]
    WorkflowDefinition.objects.update(content={"nonsense": 1})
    definition_for.cache_clear()
    try:
        page = client_of(world["operator"]).get(url(instance))
        assert page.status_code == 200
        assert "•••" in page.content.decode()
    finally:
        definition_for.cache_clear()
