from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_workflows import (
    approval,
    end,
    expression,
    function,
    group,
    human,
    initiator,
    machine,
    manager_of,
    services,
    timer,
)
from django_workflows.engine.executors import executor
from django_workflows.exceptions import (
    DefinitionNotFound,
    DuplicateInstance,
    InvalidForm,
    InvalidInput,
    InvalidValue,
    NotAuthorized,
    NotFound,
    PayloadTooLarge,
    TransitionNotAllowed,
)
from django_workflows.models import (
    HumanTask,
    Incident,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.testing import assert_log_gives_state, decide_as, frozen_clock
from tests.app.models import Expense

pytestmark = pytest.mark.django_db

SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "cur": {"default": "EUR"}},
    "required": ["amount"],
}


def work(ctx: Any) -> None: ...


def boss(user: Any) -> Any:
    from django.contrib.auth.models import User

    return User.objects.filter(username=f"boss of {user.username}").first()


def choose_people(ctx: Any, level: int) -> list[str]:
    return [f"level {level}"]


def broken_rule(ctx: Any) -> None:
    raise LookupError("the directory is down")


ASK = {"assign": group("managers")}


def nothing_was_written() -> bool:
    return not (WorkflowInstance.objects.exists() or WorkflowEvent.objects.filter(instance__isnull=False).exists())


def test_start_data_is_checked_against_the_schema_and_defaults_are_filled_in(make_instance: Any) -> None:
    with pytest.raises(InvalidForm):
        make_instance(ask=approval(**ASK), data_schema=SCHEMA, data={"amount": "x", "colour": 1})
    assert nothing_was_written()

    instance = services.start("sample", by=services.SYSTEM, data={"amount": 5})

    assert instance.data == {"amount": 5, "cur": "EUR"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param({"a": float("inf")}, InvalidValue, id="infinity"),
        pytest.param({"a": "\x00"}, InvalidValue, id="nul"),
        pytest.param({"a": "\ud800"}, InvalidValue, id="surrogate"),
        pytest.param({"a": object()}, InvalidValue, id="object"),
        pytest.param({1: 2}, InvalidValue, id="key"),
        pytest.param({"a": 2**70}, InvalidValue, id="huge-int"),
        pytest.param({"a": "x" * 5_000_000}, PayloadTooLarge, id="five-megabytes"),
        pytest.param([1], InvalidInput, id="list"),
    ],
)
def test_start_data_that_cannot_be_kept_is_refused(make_workflow: Any, data: Any, error: type[Exception]) -> None:
    workflow = make_workflow(ask=approval(**ASK))

    with pytest.raises(error):
        services.start(workflow, by=services.SYSTEM, data=data)

    assert nothing_was_written()


def test_typed_values_come_back_to_the_step_as_they_were(make_instance: Any) -> None:
    seen = {}

    def look(ctx: Any) -> None:
        seen.update(ctx.data)

    data = {"sum": Decimal("10.20"), "wait": timedelta(days=1), "pair": (1, 2)}
    make_instance(one=machine(look, mode="inline"), data=data)

    assert seen == data


def test_an_unknown_workflow_is_not_found(make_user: Any) -> None:
    with pytest.raises(DefinitionNotFound):
        services.start("unheard-of", by=make_user("ann"))


def test_a_class_that_is_registered_is_published_when_it_is_first_started(make_workflow: Any) -> None:
    workflow = make_workflow(ask=approval(**ASK))

    assert services.start(workflow, by=services.SYSTEM).definition.version == "1"


def test_the_newest_version_is_compared_as_a_version(make_workflow: Any) -> None:
    for version in ("2.0", "10.0", "1.0"):
        services.publish(make_workflow(version=version, ask=approval(**ASK)), by=services.SYSTEM)

    assert services.start("sample", by=services.SYSTEM).definition.version == "10.0"
    assert services.start("sample", by=services.SYSTEM, version="2.0").definition.version == "2.0"


def test_a_retired_version_starts_nothing_and_what_runs_goes_on(make_user: Any, make_workflow: Any) -> None:
    maria = make_user("maria", "managers")
    services.publish(make_workflow(version="1", ask=approval(**ASK)), by=services.SYSTEM)
    second = services.publish(make_workflow(version="2", ask=approval(**ASK)), by=services.SYSTEM)
    running = services.start("sample", by=services.SYSTEM)

    services.retire(second, by=services.SYSTEM)

    assert services.start("sample", by=services.SYSTEM).definition.version == "1"
    with pytest.raises(DefinitionNotFound):
        services.start("sample", by=services.SYSTEM, version="2")
    assert decide_as(maria, running, "approved").status == "completed"
    services.reactivate(second, by=services.SYSTEM)
    assert services.start("sample", by=services.SYSTEM).definition.version == "2"


def test_a_definition_with_history_cannot_be_deleted(make_instance: Any) -> None:
    from django.db.models import ProtectedError

    instance = make_instance(ask=approval(**ASK))

    with pytest.raises(ProtectedError):
        instance.definition.delete()


def test_a_business_key_is_taken_once(make_instance: Any) -> None:
    make_instance(ask=approval(**ASK))
    first = services.start("sample", by=services.SYSTEM, business_key="A-1")

    with pytest.raises(DuplicateInstance) as refusal:
        services.start("sample", by=services.SYSTEM, business_key="A-1")

    assert refusal.value.instance_id == str(first.pk)
    assert services.start("sample", by=services.SYSTEM, business_key="A-2").business_key == "A-2"


def test_the_same_idempotency_key_gives_the_same_instance(make_instance: Any) -> None:
    make_instance(ask=approval(**ASK))

    first = services.start("sample", by=services.SYSTEM, idempotency_key="k")
    again = services.start("sample", by=services.SYSTEM, idempotency_key="k")

    assert first.pk == again.pk


def test_an_instance_knows_the_row_it_is_about(make_instance: Any) -> None:
    expense = Expense.objects.create(title="Train", amount="26.85")
    make_instance(ask=approval(**ASK))

    instance = services.start("sample", by=services.SYSTEM, subject=expense)

    assert WorkflowInstance.objects.get(pk=instance.pk).subject == expense
    assert list(WorkflowInstance.objects.for_subject(expense)) == [instance]


def test_titles_are_made_from_the_data(make_user: Any, make_instance: Any) -> None:
    make_user("maria", "managers")
    title = "Declaration {{ data.number }} of {{ instance.initiator }}"
    instance = make_instance(
        ask=approval(**ASK, title="Check {{ data.number }}"), instance_title=title, data={"number": "<b>7"}
    )

    assert instance.title == "Declaration <b>7 of system"
    assert HumanTask.objects.get().title == "Check <b>7"


def test_the_initiator_may_cancel_and_a_stranger_may_not(make_user: Any, make_instance: Any) -> None:
    ann, sam = make_user("ann"), make_user("sam")
    instance = make_instance(by=ann, ask=approval(**ASK, due="1d"), wait=timer("1h"))

    with pytest.raises(NotAuthorized):
        services.cancel(instance, by=sam)
    canceled = services.cancel(instance, by=ann, reason="not needed")

    assert (canceled.status, canceled.outcome) == ("canceled", "canceled")
    assert not HumanTask.objects.open().exists()
    assert not TaskCandidate.objects.filter(is_open=True).exists()
    assert not Timer.objects.filter(status="open").exists()
    assert_log_gives_state(canceled)
    with pytest.raises(TransitionNotAllowed) as refusal:
        services.cancel(instance, by=ann)
    assert "canceled" in str(refusal.value)


def test_pausing_takes_the_right_to_administer_and_puts_timers_off(make_user: Any, make_instance: Any) -> None:
    from django.contrib.auth.models import Permission

    ann, admin = make_user("ann"), make_user("admin")
    admin.user_permissions.add(Permission.objects.get(codename="administer_workflowdefinition"))
    with frozen_clock() as clock:
        instance = make_instance(by=ann, wait=timer("2h"))
        due = Timer.objects.get().due_at
        with pytest.raises(NotAuthorized):
            services.pause(instance, by=ann)

        services.pause(instance, by=admin, reason="audit")
        assert clock.move(timedelta(hours=5)) == 0
        resumed = services.resume(instance, by=admin)

        assert Timer.objects.get().due_at == due + timedelta(hours=5)
        assert clock.move(timedelta(hours=1)) == 0
        assert clock.move(timedelta(hours=1)) == 1
    assert_log_gives_state(resumed)


def test_a_grant_on_the_definition_is_enough(make_user: Any, make_instance: Any) -> None:
    from django_workflows.models import WorkflowDefinitionUserObjectPermission as Grant

    operator = make_user("operator")
    instance = make_instance(ask=approval(**ASK))
    Grant.objects.assign_perm("administer_workflowdefinition", operator, instance.definition)

    assert services.pause(instance, by=operator).status == "paused"


def test_a_definition_may_be_started_by_who_was_granted_it_only(make_user: Any, make_workflow: Any) -> None:
    from django_workflows.models import WorkflowDefinitionUserObjectPermission as Grant

    ann = make_user("ann")
    row = services.publish(make_workflow(start="granted", ask=approval(**ASK)), by=services.SYSTEM)

    with pytest.raises(NotAuthorized):
        services.start("sample", by=ann)
    assert nothing_was_written()
    Grant.objects.assign_perm("start_workflowdefinition", ann, row)
    assert services.start("sample", by=ann).initiator == ann


def test_publishing_takes_the_right_to(make_user: Any, make_workflow: Any) -> None:
    with pytest.raises(NotAuthorized):
        services.publish(make_workflow(ask=approval(**ASK)), by=make_user("ann"))


def test_an_instance_can_be_failed_as_the_way_out_of_an_incident(make_user: Any, make_instance: Any) -> None:
    root = make_user("root", is_superuser=True)
    instance = make_instance(ask=approval(assign=group("nobody")))

    failed = services.fail(instance, by=root, reason="cannot be mended")

    assert (failed.status, failed.error) == ("failed", "cannot be mended")
    assert Incident.objects.get().status == "resolved"
    assert_log_gives_state(failed)


def test_skipping_needs_a_reason_and_a_step_that_exists(make_user: Any, make_instance: Any) -> None:
    root = make_user("root", is_superuser=True)
    make_user("maria", "managers")
    make_instance(ask=approval(**ASK), done=end("done"))
    execution = StepExecution.objects.get()

    with pytest.raises(InvalidInput):
        services.skip_step(execution, by=root, reason="")
    with pytest.raises(NotFound):
        services.skip_step("0192d5a0-0000-7000-8000-000000000000", by=root, reason="x")
    with pytest.raises(TransitionNotAllowed):
        services.skip_step(execution, by=root, reason="x", outcome="unheard-of")
    skipped = services.skip_step(execution, by=root, reason="on leave", outcome="approved")

    assert (skipped.status, skipped.outcome) == ("completed", "done")
    assert HumanTask.objects.get().status == "canceled"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(initiator(), "ann", id="initiator"),
        pytest.param(expression("data.approver"), "maria", id="expression"),
        pytest.param(function(choose_people, level=2), "level 2", id="function"),
        pytest.param(manager_of("initiator"), "boss of ann", id="manager"),
    ],
)
def test_rules_name_people(make_user: Any, make_instance: Any, settings: Any, rule: Any, expected: str) -> None:
    settings.WORKFLOWS_MANAGER_OF = "tests.services.test_instances.boss"
    people = {name: make_user(name) for name in ("ann", "maria", "level 2", "boss of ann")}

    make_instance(by=people["ann"], ask=human(assign=rule), data={"approver": "maria"})

    assert HumanTask.objects.get().assignee_name == expected
    assert not Incident.objects.exists()


@pytest.mark.parametrize(
    "rule", [expression("data.missing"), expression("data.number"), function(broken_rule), manager_of("initiator")]
)
def test_a_rule_that_fails_is_an_incident_and_not_a_crash(make_user: Any, make_instance: Any, rule: Any) -> None:
    instance = make_instance(by=make_user("ann"), ask=human(assign=rule), data={"number": 5})

    assert instance.status == "waiting"
    assert Incident.objects.get().kind == "nobody_to_assign"


def queries(call: Any) -> tuple[int, int]:
    """The statements and the commits of a call."""
    with CaptureQueriesContext(connection) as captured:
        call()
    texts = [query["sql"] for query in captured.captured_queries]
    framing = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")
    return len([text for text in texts if not text.startswith(framing)]), texts.count("COMMIT")


@pytest.mark.django_db(transaction=True)
def test_query_budgets_hold_whatever_the_history_and_the_number_of_voters(
    make_user: Any, make_instance: Any, settings: Any
) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    people = [make_user(f"user{number}", "managers") for number in range(30)]
    body = {
        "prepare": machine(work, mode="inline"),
        "ask": approval(**ASK, due="3d"),
        "pay": machine(work),
    }
    make_instance(**body)
    services.start("sample", by=people[0], data={"amount": 1})
    people[1].refresh_from_db()

    for _ in range(3):
        assert queries(lambda: services.start("sample", by=people[0], data={"amount": 1}))[0] <= 8
        task = HumanTask.objects.open().first()
        statements, commits = queries(lambda task=task: services.decide(task, "approved", by=people[1]))
        assert statements <= 9
        assert commits == 1
    assert executor().__class__.__name__ == "DjangoQExecutor"


@pytest.mark.django_db(transaction=True)
def test_a_start_without_a_due_date_takes_seven_statements_and_one_commit(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "managers")
    make_instance(prepare=machine(work, mode="inline"), ask=approval(**ASK), pay=machine(work, mode="inline"))

    budget = 7 if connection.vendor == "sqlite" else 3
    assert queries(lambda: services.start("sample", by=maria)) == (budget, 1)
    task = HumanTask.objects.open().first()
    budget = 7 if connection.vendor == "sqlite" else 2
    assert queries(lambda: services.decide(task, "approved", by=maria)) == (budget, 1)


@pytest.mark.parametrize("count", [1, 50])
def test_the_inbox_page_is_one_query_and_its_count_another(make_user: Any, make_instance: Any, count: int) -> None:
    maria = make_user("maria", "managers", "board")
    make_instance(ask=approval(**ASK))
    for _ in range(count - 1):
        services.start("sample", by=services.SYSTEM)
    inbox = HumanTask.objects.inbox(maria)

    with CaptureQueriesContext(connection) as captured:
        assert inbox.count() == count
        assert len([task.instance.title for task in inbox.select_related("instance")[:50]]) == min(count, 50)

    assert len(captured) == 2
