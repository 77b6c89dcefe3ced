"""Retention, the watchdog and the doctor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_workflows import (
    STEP_TYPES,
    Step,
    approval,
    group,
    machine,
    registry,
    services,
    step,
    step_type,
    timer,
    user,
)
from django_workflows.engine import machine_steps
from django_workflows.engine.executors import executor
from django_workflows.engine.watchdog import Watch
from django_workflows.exceptions import InvalidInput, NotAuthorized, TransitionNotAllowed
from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.testing import assert_log_gives_state, decide_as, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)

OWNED = (WorkflowInstance, StepExecution, HumanTask, TaskCandidate, Decision, Timer, Incident)
SYSTEM = services.SYSTEM


@pytest.fixture
def make_instance(make_many: Any) -> Any:
    return make_many("operations")


def work(ctx: Any) -> str:
    return "done"


def ended(instance: Any, days: int) -> None:
    """Let it have ended so many days ago."""
    WorkflowInstance.objects.filter(pk=instance.pk).update(completed_at=timezone.now() - timedelta(days=days))


@pytest.fixture
def approved(make_user: Any, make_instance: Any) -> Any:
    maria = make_user("maria", "team")

    def make(**body: Any) -> Any:
        instance = make_instance(ask=approval(assign=group("team"), due="3d"), **body)
        return decide_as(maria, instance, "approved")

    return make


# retention


def test_nothing_is_deleted_unless_somebody_says_so(approved: Any) -> None:
    ended(approved(), days=5000)

    assert services.prune(by=SYSTEM).deleted == 0


def test_what_was_kept_long_enough_goes_with_all_it_owns_and_nothing_else(approved: Any) -> None:
    old, new, held = approved(retention="30d"), approved(retention="30d"), approved(retention="30d")
    running = services.start("operations", by=SYSTEM)
    for instance, days in ((old, 31), (new, 29), (held, 99)):
        ended(instance, days)
    services.hold(held, by=SYSTEM, reason="the court")

    assert services.prune(by=SYSTEM, dry_run=True).deleted == 1
    assert services.prune(by=SYSTEM).deleted == 1
    assert services.prune(by=SYSTEM).deleted == 0

    assert set(WorkflowInstance.objects.all()) == {new, held, running}
    for model in (StepExecution, HumanTask, Timer):
        assert model.objects.filter(instance=old.pk).count() == 0
    assert Decision.objects.count() == 2
    assert WorkflowEvent.objects.filter(instance__isnull=False).count() == sum(
        instance.sequence for instance in WorkflowInstance.objects.all()
    )
    services.lift_hold(held, by=SYSTEM, reason="settled")
    ended(held, 99)
    assert services.prune(by=SYSTEM).deleted == 1


def test_the_setting_holds_where_the_definition_says_nothing(approved: Any, settings: Any) -> None:
    ended(approved(), days=40)
    settings.WORKFLOWS_RETENTION = "52w"
    assert services.prune(by=SYSTEM).deleted == 0
    settings.WORKFLOWS_RETENTION = "30d"

    assert services.prune(by=SYSTEM).deleted == 1
    assert [model.objects.count() for model in OWNED] == [0] * len(OWNED)


def test_batches_are_bounded_and_children_go_before_their_parents(approved: Any) -> None:
    instances = [approved() for _ in range(5)]
    WorkflowInstance.objects.filter(pk=instances[1].pk).update(parent=instances[0])
    for instance in instances:
        ended(instance, days=10)

    first = services.prune(by=SYSTEM, older_than="1d", batch=2, max_batches=1)
    second = services.prune(by=SYSTEM, older_than="1d", batch=2)
    third = services.prune(by=SYSTEM, older_than="1d", batch=2)

    assert (first.deleted, first.batches) == (2, 1)
    assert first.deleted + second.deleted + third.deleted == 5


@pytest.mark.parametrize(
    ("options", "error"),
    [({"older_than": "soon"}, InvalidInput), ({"older_than": -1}, InvalidInput), ({"batch": 0}, InvalidInput)],
)
def test_wrong_options_delete_nothing(approved: Any, options: Any, error: type[Exception]) -> None:
    ended(approved(), days=10)

    with pytest.raises(error):
        services.prune(by=SYSTEM, **options)
    assert WorkflowInstance.objects.count() == 1


def test_only_an_operator_deletes_or_examines_and_only_an_administrator_holds(make_user: Any, approved: Any) -> None:
    ann, instance = make_user("ann"), approved()

    for verb in (services.prune, services.examine):
        with pytest.raises(NotAuthorized):
            verb(by=ann)
    with pytest.raises(NotAuthorized):
        services.hold(instance, by=ann, reason="x")
    with pytest.raises(InvalidInput):
        services.hold(instance, by=SYSTEM, reason=" ")


def everywhere(word: str) -> list[str]:
    """Where the word stands in our tables."""
    found = []
    for model in (*OWNED, WorkflowEvent):
        for row in model.objects.values():
            found += [f"{model.__name__}.{name}" for name, value in row.items() if word in str(value)]
    return found


def test_a_person_is_taken_out_of_what_has_ended_and_the_history_stays_whole(
    make_user: Any, make_instance: Any, capsys: Any
) -> None:
    zoe, root = make_user("zoe-zandvliet", "team"), make_user("root", is_superuser=True)
    make_user("mona", "team")
    body = {"ask": approval(assign=group("team"), exclude="initiator"), "look": approval(assign=user("zoe-zandvliet"))}
    own = make_instance(**body)
    WorkflowInstance.objects.filter(pk=own.pk).delete()
    own = services.start("operations", by=zoe, data={"memo": "zoe-zandvliet wrote this"})
    other, live = services.start("operations", by=root), services.start("operations", by=zoe)
    services.cancel(own, by=zoe, reason="mistake")
    task = HumanTask.objects.get(instance=other)
    services.claim(task, by=zoe)
    services.decide(task, "approved", by=zoe)
    decide_as(zoe, other, "approved", step="look")

    done = run(capsys, "pseudonymize", "zoe-zandvliet", "--as", "person-1", "--by", "root")

    assert done == {"changed": 2, "left": 1}
    for instance in (own, other):
        assert_log_gives_state(instance)
        assert_log_gives_state(live)
    services.cancel(live, by=SYSTEM)
    services.pseudonymize(zoe, by=root, pseudonym="person-1")
    assert everywhere("zoe-zandvliet") == ["WorkflowInstance.data", "WorkflowEvent.payload"]
    assert found() == {}


@pytest.mark.parametrize("pseudonym", ["maria", " ", "x" * 151, "a\x00"])
def test_a_pseudonym_must_be_nobodys_name(make_user: Any, approved: Any, pseudonym: str) -> None:
    approved()
    maria = User.objects.get(username="maria")

    with pytest.raises(InvalidInput):
        services.pseudonymize(maria, by=SYSTEM, pseudonym=pseudonym)
    with pytest.raises(NotAuthorized):
        services.pseudonymize(maria, by=maria)
    assert Decision.objects.get().actor_name == "maria"


# the watchdog


def found(**options: Any) -> dict[str, str]:
    return {f"{one.kind}: {one.place}": one.message for one in services.examine(by=SYSTEM, **options)}


def rest(instance: Any) -> None:
    WorkflowInstance.objects.filter(pk=instance.pk).update(updated_at=timezone.now() - timedelta(hours=1))


def lose_task(instance: Any) -> None:
    HumanTask.objects.filter(instance=instance).update(status="canceled", completed_at=timezone.now())


def lose_timer(instance: Any) -> None:
    Timer.objects.filter(instance=instance).delete()


def lose_everything(instance: Any) -> None:
    state = WorkflowInstance.objects.get(pk=instance.pk).state
    WorkflowInstance.objects.filter(pk=instance.pk).update(state={**state, "tokens": {}, "ids": {}})


@pytest.mark.parametrize(
    ("body", "harm"),
    [({"ask": approval(assign=group("team"))}, lose_task), ({"rest": timer("3d")}, lose_timer)],
    ids=["task", "timer"],
)
def test_the_watchdog_makes_an_incident_of_what_waits_for_nothing(
    make_user: Any, make_instance: Any, body: Any, harm: Any
) -> None:
    make_user("maria", "team")
    instance, sound = make_instance(**body), services.start("operations", by=SYSTEM)
    rest(instance)
    assert Watch().look() == 0
    harm(instance)
    rest(instance)

    assert Watch().look() == 1
    rest(instance)
    assert Watch().look() == 0
    assert Incident.objects.get().kind == "stuck"
    assert Incident.objects.get().instance_id == instance.pk != sound.pk


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside(Step):
    """A type of the project's own: something outside completes it."""

    waits_outside: ClassVar[bool] = True

    def enter(self, run: Any, token: Any) -> None:
        run.emit_started(token, waiting=True)


def test_a_step_type_of_the_project_may_wait_for_what_only_the_project_knows(make_instance: Any) -> None:
    if "outside" not in STEP_TYPES:
        step_type("outside")(Outside)
    instance = make_instance(call=step("outside"))
    rest(instance)

    assert instance.status == "waiting"
    assert (Watch().look(), found()) == (0, {})


def test_an_instance_whose_steps_are_all_through_is_ended_by_a_job(make_instance: Any) -> None:
    instance = make_instance(rest=timer("3d"))
    lose_everything(instance)
    rest(instance)

    assert Watch().look() == 1
    run_jobs()

    instance.refresh_from_db()
    assert instance.status == "completed"


def test_the_watchdog_goes_through_all_instances_in_rounds(make_instance: Any, monkeypatch: Any) -> None:
    from django_workflows.engine import watchdog

    monkeypatch.setattr(watchdog, "BATCH", 2)
    instances = [make_instance(rest=timer("3d")) for _ in range(5)]
    for instance in instances:
        lose_timer(instance)
        rest(instance)
    watch = Watch()

    assert [watch.look() for _ in range(4)] == [2, 2, 1, 0]


# the doctor


def test_a_sound_house_has_no_findings(make_user: Any, approved: Any, make_instance: Any) -> None:
    approved(max_duration="90d")
    services.start("operations", by=SYSTEM)
    make_instance(rest=timer("3d"))
    make_instance(work=machine(work), durable=False)
    make_instance(work=machine(work))

    assert found() == {}
    run_jobs()
    assert found() == {}


def test_lost_messages_and_workers_are_found_and_mended_through_the_queue(make_instance: Any) -> None:
    instance = make_instance(work=machine(work))
    executor().jobs.clear()  # type: ignore[attr-defined]
    StepExecution.objects.update(scheduled_at=timezone.now() - timedelta(hours=1))
    assert list(found()) == ["lost: work#1"]
    assert [done for _, done in mended()] == [True]
    job = executor().jobs.pop()  # type: ignore[attr-defined]
    machine_steps.claim(job.instance_id, job.key, job.attempt)
    assert found() == {}
    StepExecution.objects.update(lease_until="2020-01-01T00:00:00Z")

    assert "lease ran out" in found()["lost: work#1"]
    assert [done for _, done in mended()] == [True]
    run_jobs()
    instance.refresh_from_db()
    assert instance.status == "completed"
    assert_log_gives_state(instance)


def mended() -> list[Any]:
    return [(finding, finding.repair()) for finding in services.examine(by=SYSTEM)]


def test_late_timers_are_found_and_fired(make_instance: Any) -> None:
    instance = make_instance(rest=timer("3d"))
    Timer.objects.update(due_at=timezone.now() - timedelta(hours=1))

    assert list(found()) == ["lost: sleep of rest#1"]
    assert [done for _, done in mended()] == [True]
    instance.refresh_from_db()
    assert instance.status == "completed"


def test_orphans_are_found_and_closed(approved: Any) -> None:
    instance = approved(max_duration="9d")
    HumanTask.objects.update(status="open", completed_at=None)
    StepExecution.objects.update(status="waiting")
    Timer.objects.update(status="open")

    assert {place.split()[1] for place in found()} == {"task", "step", "timer"}
    assert all(done for _, done in mended())
    assert found() == {}
    TaskCandidate.objects.update(is_open=True)
    assert {place.split()[1] for place in found()} == {"candidate"}
    assert all(done for _, done in mended())
    assert found() == {}
    assert not Timer.objects.filter(status="open").exists()
    instance.refresh_from_db()
    assert instance.status == "completed"


def drop_line(instance: Any) -> None:
    WorkflowEvent.objects.filter(instance=instance, sequence=2).delete()


def drop_all(instance: Any) -> None:
    WorkflowEvent.objects.filter(instance=instance).delete()


def change_data(instance: Any) -> None:
    WorkflowInstance.objects.filter(pk=instance.pk).update(data={"amount": 5})


def change_line(instance: Any) -> None:
    WorkflowEvent.objects.filter(instance=instance, name="human_task_decided").update(outcome="rejected")


def garble(instance: Any) -> None:
    WorkflowInstance.objects.filter(pk=instance.pk).update(state={"tokens": {"ask#1": {"nonsense": 1}}})


@pytest.mark.parametrize("harm", [drop_line, drop_all, change_data, change_line, garble])
def test_drift_is_found_explained_and_left_to_a_person(make_user: Any, make_instance: Any, harm: Any) -> None:
    maria = make_user("maria", "team")
    make_user("mona", "team")
    instance = make_instance(ask=approval(assign=group("team"), quorum=2))
    decide_as(maria, instance, "approved")
    harm(instance)

    findings = list(services.examine(by=SYSTEM))

    assert "drifted" in {one.kind for one in findings}
    assert all(one.message and one.advice for one in findings)
    assert not any(one.mend for one in findings if one.kind == "drifted")


def test_code_that_is_gone_or_changed_is_found(make_workflow: Any, make_instance: Any, monkeypatch: Any) -> None:
    make_instance(work=machine(work))
    monkeypatch.delitem(registry._functions, registry._names[work])

    assert "no code has registered" in found()["drifted: definition operations 1"]


# the commands


def run(capsys: Any, *words: Any) -> Any:
    capsys.readouterr()
    call_command("workflows", *map(str, words), "--json")
    return json.loads(capsys.readouterr().out)


def test_instances_are_listed_shown_and_told_as_json_and_as_text(capsys: Any, approved: Any) -> None:
    instance = approved(data={"password": "x", "amount": 3})

    listed = run(capsys, "list", "--workflow", "operations")
    shown = run(capsys, "show", instance.pk)
    log = run(capsys, "log", instance.pk)

    assert [row["status"] for row in listed] == ["completed"]
    assert (shown["outcome"], shown["data"]) == ("approved", {"password": "•••", "amount": 3})
    assert [step["step"] for step in shown["steps"]] == ["ask"]
    assert [line["sequence"] for line in log] == list(range(1, instance.sequence + 1))
    for words in (["list"], ["show", str(instance.pk)], ["log", str(instance.pk), "--watch", "0.1"]):
        call_command("workflows", *words)
    out = capsys.readouterr().out
    assert "completed" in out
    assert "workflow_completed" in out


def test_watching_shows_what_comes_until_the_end(capsys: Any, make_instance: Any, monkeypatch: Any) -> None:
    instance = make_instance(work=machine(work))
    monkeypatch.setattr("time.sleep", lambda seconds: run_jobs())

    call_command("workflows", "log", str(instance.pk), "--watch", "--json")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines][-1] == "workflow_completed"
    assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))


def test_verbs_act_on_many_and_tell_what_was_refused(capsys: Any, make_user: Any, make_instance: Any) -> None:
    make_user("root", is_superuser=True)
    instances = [make_instance(rest=timer("3d")) for _ in range(3)]

    paused = run(capsys, "pause", "--workflow", "operations", "--reason", "audit", "--by", "root")
    assert [row["status"] for row in paused] == ["paused"] * 3
    run(capsys, "resume", instances[0].pk)
    with pytest.raises(SystemExit) as stop:
        call_command("workflows", "resume", "--workflow", "operations")
    assert stop.value.code == 1
    canceled = run(capsys, "cancel", *[i.pk for i in instances], "--wait", "1s", "--force")
    assert [row["status"] for row in canceled] == ["canceled"] * 3
    run(capsys, "hold", instances[0].pk, "--reason", "court")
    assert run(capsys, "prune", "--older-than", "0s")["deleted"] == 2
    run(capsys, "release", instances[0].pk, "--reason", "over")
    assert run(capsys, "prune", "--older-than", "0s", "--dry-run")["deleted"] == 1


def test_an_act_can_be_watched_to_its_end(capsys: Any, make_instance: Any, monkeypatch: Any) -> None:
    instances = [make_instance(work=machine(needs_amount)) for _ in range(2)]
    run_jobs()
    monkeypatch.setattr("time.sleep", lambda seconds: run_jobs())

    done = run(capsys, "retry", *[i.pk for i in instances], "--data", '{"amount": 5}', "--watch", "1")

    assert [row["status"] for row in done] == ["completed", "completed"]


def needs_amount(ctx: Any) -> int:
    return int(ctx.data["amount"])


def test_failed_steps_are_retried_and_incidents_resolved_by_cause(capsys: Any, make_instance: Any) -> None:
    instances = [make_instance(work=machine(needs_amount)) for _ in range(3)]
    run_jobs()

    cause = run(capsys, "incidents")[0]
    assert (cause["open"], cause["kind"], cause["error_type"]) == (3, "step_failed", "KeyError")
    retried = run(capsys, "retry", instances[0].pk, "--data", '{"amount": 5}')
    run_jobs()
    assert retried[0]["status"] == "running"
    done = run(capsys, "resolve", cause["fingerprint"], "skip", "--reason", "by hand", "--output", "7")
    assert done == {"found": 2, "done": 2, "refused": []}
    for instance, output in zip(instances, (5, 7, 7), strict=True):
        instance.refresh_from_db()
        assert (instance.status, instance.results["work"]["output"]) == ("completed", output)


def test_the_doctor_repairs_at_the_command_line(capsys: Any, make_instance: Any) -> None:
    instance = make_instance(rest=timer("3d"))
    run(capsys, "doctor")
    Timer.objects.all().delete()
    with pytest.raises(SystemExit):
        call_command("workflows", "doctor")
    assert "Nothing will ever move it" in capsys.readouterr().out

    repaired = run(capsys, "doctor", "--repair")

    assert repaired["left"] == 0
    assert repaired["findings"][0]["mended"] is True
    assert run(capsys, "doctor", instance.pk)["findings"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["cancel"],
        ["show", "nothing"],
        ["cancel", "nothing"],
        ["pause", "--workflow", "operations", "--by", "nobody"],
        ["retry", "--workflow", "operations", "--data", "[1]"],
        ["retry", "--workflow", "operations", "--data", "{"],
        ["prune", "--older-than", "soon"],
        ["resolve", "x", "skip"],
        ["resolve", "x", "retry", "--data", "{"],
    ],
)
def test_wrong_words_are_told(make_instance: Any, words: list[str]) -> None:
    make_instance(rest=timer("3d"))

    with pytest.raises(CommandError):
        call_command("workflows", *words)
    assert WorkflowInstance.objects.get().status == "waiting"


def test_settling_what_waits_is_refused(make_instance: Any) -> None:
    from django_workflows.engine.watchdog import settle

    instance = make_instance(rest=timer("3d"))
    with pytest.raises(TransitionNotAllowed):
        settle(str(instance.pk), "", 0)
