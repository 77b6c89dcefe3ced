from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from django_workflows import approval, end, group, human, machine, services, user
from django_workflows.engine import jobs, machine_steps
from django_workflows.engine.loader import definition_for
from django_workflows.models import HumanTask, StepExecution, WorkflowDefinition, WorkflowInstance
from tests.app.models import Expense

pytestmark = pytest.mark.django_db

FORM = {"type": "object", "properties": {"amount": {"type": "number", "minimum": 0}}, "required": ["amount"]}
UNKNOWN = "0192d5a0-0000-7000-8000-000000000000"


def give_up(ctx: Any) -> None:
    raise ValueError("no such account")


@pytest.fixture
def client_of() -> Any:
    def make(user: Any = None) -> APIClient:
        client = APIClient()
        if user is not None:
            client.force_authenticate(user)
        return client

    return make


@pytest.fixture
def world(make_user: Any, make_instance: Any) -> dict[str, Any]:
    ann, maria, sam = make_user("ann"), make_user("maria", "managers"), make_user("sam")
    admin = make_user("admin")
    admin.user_permissions.add(*Permission.objects.filter(codename="administer_workflowdefinition"))
    ask = approval(assign=group("managers"), form=FORM, merge="amount", due="3d")
    instance = make_instance(by=ann, ask=ask, done=end("done"), data={"amount": 1, "password": "x"})
    return {
        "ann": ann, "maria": maria, "sam": sam, "admin": admin, "instance": instance,
        "task": HumanTask.objects.get(), "step": StepExecution.objects.get(), "definition": instance.definition,
    }  # fmt: skip


def routes(world: dict[str, Any]) -> list[tuple[str, str]]:
    definition, instance, task = world["definition"].pk, world["instance"].pk, world["task"].pk
    step = world["step"].pk
    return [
        ("get", "/api/definitions/"),
        ("get", f"/api/definitions/{definition}/"),
        ("get", f"/api/definitions/{definition}/versions/"),
        ("get", f"/api/definitions/{definition}/graph/"),
        ("post", f"/api/definitions/{definition}/start/"),
        ("post", f"/api/definitions/{definition}/retire/"),
        ("post", f"/api/definitions/{definition}/reactivate/"),
        ("post", "/api/definitions/publish/"),
        ("post", "/api/definitions/validate/"),
        ("get", "/api/instances/"),
        ("post", "/api/instances/"),
        *[("get", f"/api/instances/{instance}/{part}") for part in ("", "events/", "steps/", "graph/", "incidents/")],
        *[("post", f"/api/instances/{instance}/{verb}/") for verb in ("cancel", "pause", "resume", "fail", "comment")],
        *[("post", f"/api/instances/{instance}/{verb}/") for verb in ("hold", "lift_hold")],
        ("get", "/api/incidents/"),
        ("get", "/api/incidents/causes/"),
        ("post", "/api/incidents/resolve/"),
        *[("post", f"/api/instances/{instance}/steps/{step}/{verb}/") for verb in ("retry", "skip")],
        ("get", "/api/tasks/"),
        ("get", f"/api/tasks/{task}/"),
        ("get", f"/api/tasks/{task}/form/"),
        *[("post", f"/api/tasks/{task}/{verb}/") for verb in ("claim", "release", "decide", "reassign", "comment")],
    ]


def test_nobody_gets_in_anonymously(world: Any, client_of: Any) -> None:
    for method, url in routes(world):
        response = getattr(client_of(), method)(url, {}, format="json")
        assert response.status_code in (401, 403), (method, url)
        assert response.json()["code"] == "not_authenticated"


def test_a_stranger_learns_of_no_instance_and_of_no_task(world: Any, client_of: Any) -> None:
    client = client_of(world["sam"])

    for method, url in routes(world):
        if ("/instances/" in url and url != "/api/instances/") or ("/tasks/" in url and url != "/api/tasks/"):
            assert getattr(client, method)(url, {}, format="json").status_code == 404, (method, url)
    assert client.get("/api/instances/").json()["results"] == []
    assert client.get("/api/tasks/").json()["results"] == []


def test_who_sees_it_but_may_not_gets_403_and_a_wrong_state_409(world: Any, client_of: Any) -> None:
    instance, task = world["instance"].pk, world["task"].pk
    ann, admin = client_of(world["ann"]), client_of(world["admin"])

    assert ann.post(f"/api/instances/{instance}/pause/", {}, format="json").status_code == 403
    assert admin.post(f"/api/tasks/{task}/decide/", {"outcome": "approved"}, format="json").status_code == 403
    assert admin.post(f"/api/instances/{instance}/resume/", {}, format="json").status_code == 409
    assert ann.post(f"/api/definitions/{world['definition'].pk}/retire/", {}, format="json").status_code == 403


def test_from_start_to_decision(world: Any, client_of: Any) -> None:
    ann, maria = client_of(world["ann"]), client_of(world["maria"])

    started = ann.post("/api/instances/", {"workflow": "sample", "data": {"amount": 2}}, format="json")
    assert started.status_code == 201
    inbox = maria.get("/api/tasks/?mine=true&status=open").json()["results"]
    task = next(item for item in inbox if item["instance"] == started.json()["id"])
    assert maria.post(f"/api/tasks/{task['id']}/claim/", {}, format="json").json()["assignee"] == "maria"
    refused = maria.post(f"/api/tasks/{task['id']}/decide/", {"outcome": "approved", "form": {}}, format="json")
    assert (refused.status_code, refused.json()["details"]["errors"]) == (400, {"amount": ["This field is required."]})
    decided = maria.post(
        f"/api/tasks/{task['id']}/decide/", {"outcome": "approved", "form": {"amount": 3}}, format="json"
    )

    assert decided.json()["status"] == "completed"
    detail = ann.get(f"/api/instances/{started.json()['id']}/").json()
    assert (detail["status"], detail["outcome"], detail["data"]) == ("completed", "done", {"amount": 3})
    assert detail["available_actions"] == []
    again = maria.post(
        f"/api/tasks/{task['id']}/decide/", {"outcome": "approved", "form": {"amount": 3}}, format="json"
    )
    assert (again.status_code, again.json()["code"]) == (409, "already_decided")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param('{"outcome": "approvd"}', 400, "unknown_outcome", id="outcome"),
        pytest.param('{"outcome": 5}', 400, "invalid_input", id="type"),
        pytest.param('{"outcome": "approved", "colour": 1}', 400, "invalid_input", id="unknown-field"),
        pytest.param("[1]", 400, "invalid_input", id="list"),
        pytest.param("{", 400, "invalid_input", id="broken"),
        pytest.param('{"form": {"amount": NaN}}', 400, "invalid_input", id="nan"),
        pytest.param('{"form": {"amount": 1e999}}', 400, "invalid_input", id="infinity"),
        pytest.param('{"comment": "\\u0000"}', 400, "invalid_value", id="nul"),
        pytest.param('{"comment": "\\ud800"}', 400, "invalid_value", id="surrogate"),
        pytest.param('{"a": 1, "a": 2}', 400, "invalid_input", id="double-key"),
        pytest.param("[" * 5000 + "]" * 5000, 413, "payload_too_large", id="deep"),
        pytest.param('{"comment": "' + "x" * 5_000_000 + '"}', 413, "payload_too_large", id="five-megabytes"),
        pytest.param('{"form": {"amount": 99999999999999999999999}}', 400, "invalid_input", id="huge-int"),
        pytest.param(b"\xff", 400, "invalid_input", id="not-utf-8"),
    ],
)
def test_bad_input_is_refused_in_one_shape_and_changes_nothing(
    world: Any, client_of: Any, body: Any, status: int, code: str
) -> None:
    response = client_of(world["maria"]).post(
        f"/api/tasks/{world['task'].pk}/decide/", body, content_type="application/json"
    )

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert set(response.json()) == {"code", "message", "details"}
    assert HumanTask.objects.get().status == "open"


def test_another_content_type_is_415_and_an_unknown_method_405(world: Any, client_of: Any) -> None:
    client = client_of(world["maria"])

    assert client.post(f"/api/tasks/{world['task'].pk}/claim/", "x", content_type="text/plain").status_code == 415
    assert client.delete(f"/api/tasks/{world['task'].pk}/").status_code == 405
    assert client.get("/api/tasks/nonsense/").status_code == 404
    assert client.get(f"/api/tasks/{UNKNOWN}/").status_code == 404


@pytest.mark.parametrize(
    "query", ["status=nonsense", "started_after=x", "has_incident=perhaps", "cursor=x", "started_after=2020-01-01"]
)
def test_filters_take_what_makes_sense_and_refuse_the_rest(world: Any, client_of: Any, query: str) -> None:
    response = client_of(world["admin"]).get(f"/api/instances/?{query}")

    assert response.status_code in (200, 400, 404)


def test_lists_are_filtered(world: Any, client_of: Any) -> None:
    client = client_of(world["admin"])

    def count(query: str) -> int:
        return len(client.get(f"/api/instances/?{query}").json()["results"])

    assert count("status=waiting,completed&workflow=sample") == 1
    assert count("status=completed") == 0
    assert count("initiator=ann") == 1
    assert count(f"search={world['instance'].pk}") == 1
    assert count("has_incident=true") == 0
    assert count("has_incident=false") == 1
    assert len(client.get("/api/tasks/?group=managers&overdue=false").json()["results"]) == 1
    assert client.get("/api/tasks/?overdue=true").json()["results"] == []


def test_sensitive_values_and_tracebacks_are_not_shown(
    world: Any, client_of: Any, make_workflow: Any, settings: Any
) -> None:

    detail = client_of(world["ann"]).get(f"/api/instances/{world['instance'].pk}/").json()
    events = client_of(world["ann"]).get(f"/api/instances/{world['instance'].pk}/events/").json()["results"]
    assert detail["data"]["password"] == "•••"
    assert events[0]["payload"]["data"]["password"] == "•••"

    broken = services.start(make_workflow("broken", one=machine(give_up, mode="transactional")), by=world["ann"])
    jobs.run("run_step", str(broken.pk), "one#1", 1)
    for name, sees in (("ann", False), ("admin", True)):
        text = client_of(world[name]).get(f"/api/instances/{broken.pk}/events/").content.decode()
        steps = client_of(world[name]).get(f"/api/instances/{broken.pk}/steps/").json()
        assert ("Traceback" in text) is sees
        assert ("traceback" in steps[0]) is sees


def test_an_administrator_resolves_an_incident(world: Any, client_of: Any, make_workflow: Any) -> None:
    broken = services.start(make_workflow("broken", one=machine(give_up), done=end("ok")), by=world["ann"])
    jobs.run("run_step", str(broken.pk), "one#1", 1)
    client, url = client_of(world["admin"]), f"/api/instances/{broken.pk}/"
    step = StepExecution.objects.get(instance=broken)

    assert client.get(f"{url}incidents/").json()[0]["kind"] == "step_failed"
    assert client.post(f"{url}steps/{step.pk}/skip/", {}, format="json").status_code == 400
    assert client.post(f"{url}steps/{UNKNOWN}/skip/", {"reason": "x"}, format="json").status_code == 404
    skipped = client.post(f"{url}steps/{step.pk}/skip/", {"reason": "by hand", "output": {"a": 1}}, format="json")

    assert (skipped.json()["status"], skipped.json()["results"]["one"]["output"]) == ("completed", {"a": 1})


def test_the_same_idempotency_key_is_answered_with_the_same_instance(world: Any, client_of: Any) -> None:
    client, body = client_of(world["ann"]), {"workflow": "sample", "idempotency_key": "k"}

    first, again = (client.post("/api/instances/", body, format="json") for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    body = {"workflow": "sample", "business_key": "b"}
    assert client.post("/api/instances/", body, format="json").status_code == 201
    assert client.post("/api/instances/", body, format="json").status_code == 409


def test_an_inline_step_that_raises_refuses_the_decision(world: Any, client_of: Any, make_workflow: Any) -> None:
    body = {"ask": approval(assign=group("managers")), "book": machine(give_up, mode="inline")}
    instance = services.start(make_workflow("strict", **body), by=world["ann"])
    task = HumanTask.objects.get(instance=instance)

    refused = client_of(world["maria"]).post(f"/api/tasks/{task.pk}/decide/", {"outcome": "approved"}, format="json")

    assert (refused.status_code, refused.json()["code"]) == (409, "step_refused")
    assert "no such account" in refused.json()["message"]
    task.refresh_from_db()
    assert task.status == "open"


def test_a_subject_must_be_visible_to_who_names_it(world: Any, client_of: Any) -> None:
    expense = Expense.objects.create(title="Train", amount="26.85")
    body = {"workflow": "sample", "subject": {"type": "app.expense", "id": expense.pk}}
    label = Expense._meta.label_lower
    body["subject"]["type"] = label  # type: ignore[index]
    client = client_of(world["ann"])

    assert client.post("/api/instances/", body, format="json").status_code == 400
    world["ann"].user_permissions.add(Permission.objects.get(codename="view_expense"))
    ann = type(world["ann"]).objects.get(pk=world["ann"].pk)
    started = client_of(ann).post("/api/instances/", body, format="json")

    assert started.status_code == 201
    assert WorkflowInstance.objects.get(pk=started.json()["id"]).subject == expense


def test_pictures_come_in_four_forms(world: Any, client_of: Any) -> None:
    client = client_of(world["ann"])
    for base in (f"/api/instances/{world['instance'].pk}/graph/", f"/api/definitions/{world['definition'].pk}/graph/"):
        assert client.get(base).json()["initial"] == "ask"
        assert client.get(base + "?as=svg")["Content-Type"] == "image/svg+xml"
        assert client.get(base + "?as=mermaid").content.startswith(b"flowchart")
        assert client.get(base + "?as=dot").content.startswith(b"digraph")
        assert client.get(base + "?as=png").status_code == 400


def test_a_definition_is_validated_and_published_by_who_may(world: Any, client_of: Any) -> None:
    good = {"name": "leave", "steps": [{"name": "ask", "type": "approval", "assign": {"groups": ["leads"]}}]}
    bad = {"name": "x y", "steps": [{"name": "a", "type": "machine", "function": "os.getcwd"}], "colour": 1}
    ann, publisher = client_of(world["ann"]), world["admin"]

    assert ann.post("/api/definitions/validate/", good, format="json").json()["valid"] is True
    found = ann.post("/api/definitions/validate/", bad, format="json").json()
    assert found["valid"] is False
    assert ann.post("/api/definitions/publish/", good, format="json").status_code == 403
    publisher.user_permissions.add(Permission.objects.get(codename="publish_workflowdefinition"))
    client = client_of(type(publisher).objects.get(pk=publisher.pk))
    assert client.post("/api/definitions/publish/", bad, format="json").status_code == 400
    published = client.post("/api/definitions/publish/", good, format="json")
    assert published.status_code == 201
    retired = client.post(f"/api/definitions/{published.json()['id']}/retire/", {}, format="json")
    assert retired.json()["status"] == "retired"


def test_a_task_is_handed_on_by_name(world: Any, client_of: Any) -> None:
    client, url = client_of(world["maria"]), f"/api/tasks/{world['task'].pk}/reassign/"

    for body in ({}, {"user": "nobody", "reason": "x"}, {"group": "none", "reason": "x"}, {"user": "sam"}):
        assert client.post(url, body, format="json").status_code == 400, body
    handed = client.post(url, {"user": "sam", "reason": "his field"}, format="json")

    assert handed.json()["assignee"] == "sam"
    assert len(client_of(world["sam"]).get("/api/tasks/?mine=1").json()["results"]) == 1


def test_another_tenant_sees_nothing(world: Any, client_of: Any, settings: Any) -> None:
    settings.WORKFLOWS_TENANT_OF_REQUEST = "tests.api.test_api.tenant_b"
    client = client_of(world["admin"])

    for url in ("/api/definitions/", "/api/instances/", "/api/tasks/"):
        assert client.get(url).json()["results"] == []
    assert client.get(f"/api/instances/{world['instance'].pk}/").status_code == 404


def tenant_b(request: Any) -> str:
    return "b"


@pytest.mark.parametrize("url", ["/api/definitions/", "/api/instances/", "/api/tasks/", "/api/tasks/?mine=1"])
def test_lists_cost_the_same_for_one_row_and_for_fifty(
    world: Any, client_of: Any, make_workflow: Any, url: str
) -> None:
    def cost() -> int:
        maria = type(world["maria"]).objects.get(pk=world["maria"].pk)
        with CaptureQueriesContext(connection) as captured:
            response = client_of(maria).get(url)
        assert response.status_code == 200
        return len(captured)

    client_of(world["maria"]).get(url)
    one = cost()
    for number in range(49):
        services.start("sample", by=world["ann"])
        services.publish(make_workflow(f"other{number}", ask=human(assign=user("maria"))), by=services.SYSTEM)

    assert cost() == one
    assert one <= 10


def test_details_cost_the_same_whatever_the_history(world: Any, client_of: Any) -> None:
    urls = [f"/api/instances/{world['instance'].pk}/", f"/api/tasks/{world['task'].pk}/"]

    def costs() -> list[int]:
        found = []
        for url in urls:
            with CaptureQueriesContext(connection) as captured:
                client_of(world["maria"]).get(url)
            found.append(len(captured))
        return found

    costs()
    before = costs()
    for number in range(10):
        services.comment(world["task"], f"comment {number}", by=world["maria"])

    assert costs() == before


def broken_instances(world: Any, make_workflow: Any, count: int) -> list[Any]:
    workflow = make_workflow("refusing", one=machine(give_up), done=end("ok"))
    services.publish(workflow, by=services.SYSTEM)
    found = [services.start(workflow, by=world["ann"]) for _ in range(count)]
    for instance in found:
        jobs.run("run_step", str(instance.pk), "one#1", 1)
    return found


def test_incidents_are_listed_and_resolved(world: Any, client_of: Any, make_workflow: Any) -> None:
    broken = broken_instances(world, make_workflow, 3)
    admin, ann, sam = (client_of(world[name]) for name in ("admin", "ann", "sam"))
    listed = admin.get("/api/incidents/?status=open&workflow=refusing").json()["results"]
    cause = admin.get("/api/incidents/causes/").json()[0]
    first = listed[0]["id"]

    assert (len(listed), cause["open"], cause["fingerprint"]) == (3, 3, listed[0]["fingerprint"])
    assert len(ann.get("/api/incidents/").json()["results"]) == 3
    assert sam.get("/api/incidents/").json()["results"] == []
    assert sam.get(f"/api/incidents/{first}/").status_code == 404
    assert sam.post(f"/api/incidents/{first}/resolve/", {"action": "retry"}, format="json").status_code == 404
    assert ann.post(f"/api/incidents/{first}/resolve/", {"action": "retry"}, format="json").status_code == 403
    for wrong in ({}, {"action": "mend"}, {"action": "skip"}, {"action": "retry", "data": 5}, {"nonsense": 1}):
        assert admin.post(f"/api/incidents/{first}/resolve/", wrong, format="json").status_code == 400
    by_hand = {"action": "skip", "reason": "by hand", "output": 7}
    done = admin.post(f"/api/incidents/{first}/resolve/", by_hand, format="json").json()
    assert (done["status"], done["resolved_by"]) == ("resolved", "admin")
    assert admin.post(f"/api/incidents/{first}/resolve/", by_hand, format="json").status_code == 409

    everything = {"fingerprint": cause["fingerprint"], "action": "fail", "reason": "hopeless"}
    assert admin.post("/api/incidents/resolve/", {**everything, "dry_run": True}, format="json").json()["done"] == 0
    assert ann.post("/api/incidents/resolve/", everything, format="json").json()["done"] == 0
    report = admin.post("/api/incidents/resolve/", everything, format="json").json()
    assert report == {"found": 2, "done": 2, "refused": []}
    assert sorted(WorkflowInstance.objects.filter(workflow="refusing").values_list("status", flat=True)) == [
        "completed", "failed", "failed",
    ]  # fmt: skip
    assert len(broken) == 3


@pytest.mark.parametrize("count", [1, 50])
def test_lists_of_incidents_cost_a_constant_number_of_queries(
    world: Any, client_of: Any, make_workflow: Any, count: int
) -> None:
    broken_instances(world, make_workflow, count)
    client = client_of(world["admin"])
    client.get("/api/incidents/")  # permissions are read once

    for path, most in (("/api/incidents/", 2), ("/api/incidents/causes/", 2)):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        assert len(queries) <= most, [query["sql"] for query in queries]


def test_a_running_step_is_shown_and_its_cancellation_waits_or_is_forced(
    world: Any, client_of: Any, make_workflow: Any
) -> None:
    instance = services.start(make_workflow("sluggish", one=machine(give_up)), by=world["ann"])
    machine_steps.claim(str(instance.pk), "one#1", 1)
    client, path = client_of(world["admin"]), f"/api/instances/{instance.pk}/"

    for wrong in ({"wait": 31}, {"wait": "long"}, {"force": "yes"}, {"wait": -1}):
        assert client.post(path + "cancel/", wrong, format="json").status_code == 400
    asked = client.post(path + "cancel/", {"reason": "not needed"}, format="json").json()
    assert (asked["status"], asked["available_actions"]) == ("running", ["cancel", "fail", "hold"])
    assert asked["cancel_requested_at"]
    held = client.post(path + "hold/", {"reason": "the court"}, format="json").json()
    assert (held["legal_hold"], held["available_actions"][-1]) == (True, "lift_hold")
    assert client.post(path + "lift_hold/", {"reason": ""}, format="json").status_code == 400
    assert client.post(path + "cancel/", {"force": True}, format="json").json()["status"] == "canceled"
    step = client.get(path + "steps/").json()[0]
    assert (step["status"], step["interruptions"], step["next_attempt_at"]) == ("canceled", 0, None)


def test_what_cannot_be_read_any_more_is_shown_without_its_data(world: Any, client_of: Any) -> None:
    WorkflowDefinition.objects.update(content={"nonsense": 1})
    definition_for.cache_clear()
    try:
        path = f"/api/instances/{world['instance'].pk}/"
        for part in ("", "events/", "steps/"):
            assert client_of(world["admin"]).get(path + part).status_code == 200
        assert client_of(world["admin"]).get(path).json()["data"] == {}
    finally:
        definition_for.cache_clear()
