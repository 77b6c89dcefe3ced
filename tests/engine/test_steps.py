from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils.module_loading import import_string
from django_q.models import Schedule

from django_workflows import FatalError, Retry, RetryableError, approval, end, group, machine, services, timer
from django_workflows.engine import jobs, machine_steps
from django_workflows.engine.executors import executor
from django_workflows.engine.recovery import sweep
from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.models import HumanTask, Incident, StepExecution, Timer, WorkflowEvent, WorkflowInstance
from django_workflows.testing import assert_log_gives_state, decide_as, frozen_clock, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    CALLS.clear()


def note(ctx: Any) -> int:
    CALLS.append(ctx.idempotency_key)
    ctx.data.setdefault("seen", []).append(ctx.step)
    return len(CALLS)


def write_group(ctx: Any) -> None:
    Group.objects.create(name=f"by {ctx.step}")


def write_group_and_fail(ctx: Any) -> None:
    Group.objects.create(name="half done")
    raise ValueError("no such account")


def add(ctx: Any, a: int, b: int) -> int:
    return a + b


def fail_twice(ctx: Any) -> str:
    CALLS.append(ctx.attempt)
    if ctx.attempt < 3:
        raise OSError("not yet")
    return "at last"


def fail_for_good(ctx: Any) -> None:
    raise FatalError("never")


def come_back_later(ctx: Any) -> None:
    raise RetryableError("busy", retry_after=90)


async def wait_for_it(ctx: Any) -> str:
    return "async"


def not_json(ctx: Any) -> Any:
    return {"a": [object()]}


def chooses(ctx: Any) -> None:
    ctx.choose("large" if ctx.get("amount", 0) > 10 else "small")


def reports(ctx: Any) -> None:
    ctx.progress(1, of=4, text="a quarter")
    with ctx.action("upload", text="sending"):
        pass
    with pytest.raises(KeyError), ctx.action("lookup"):
        raise KeyError("x")


def after(ctx: Any, result: Any) -> None:
    CALLS.append(("after", result))


def handles(ctx: Any, error: Exception) -> bool:
    ctx.set("handled", str(error))
    return True


@pytest.mark.parametrize("mode", ["inline", "transactional", "at_least_once"])
def test_a_body_runs_once_and_its_changes_are_stored(make_instance: Any, mode: str) -> None:
    instance = make_instance(one=machine(note, mode=mode, on_success=after), two=machine(note, mode=mode))
    run_jobs()

    instance.refresh_from_db()
    assert instance.status == "completed"
    assert instance.data == {"seen": ["one", "two"]}
    assert [f"{instance.pk}:one:1", ("after", 1), f"{instance.pk}:two:1"] == CALLS
    assert instance.results["two"]["output"] == 3
    assert_log_gives_state(instance)


def test_an_inline_body_that_raises_refuses_the_decision_and_changes_nothing(
    make_user: Any, make_instance: Any
) -> None:
    maria = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")), book=machine(write_group_and_fail, mode="inline"))
    before = WorkflowEvent.objects.count()

    with pytest.raises(ValueError, match="no such account"):
        decide_as(maria, instance, "approved")

    assert WorkflowEvent.objects.count() == before
    assert not Group.objects.filter(name="half done").exists()
    assert HumanTask.objects.get().status == "open"


def test_a_transactional_body_that_raises_leaves_nothing_but_its_failure(make_instance: Any) -> None:
    instance = make_instance(book=machine(write_group_and_fail, mode="transactional"))
    run_jobs()

    assert not Group.objects.filter(name="half done").exists()
    execution = StepExecution.objects.get(instance=instance)
    assert (execution.status, execution.error_type, execution.error) == ("failed", "ValueError", "no such account")
    assert "write_group_and_fail" in execution.traceback
    assert Incident.objects.get().kind == "step_failed"
    assert_log_gives_state(instance)


def test_a_job_that_comes_twice_finds_nothing_to_do(make_instance: Any) -> None:
    instance = make_instance(one=machine(note, mode="transactional"))
    job = executor().jobs[0]  # type: ignore[attr-defined]
    run_jobs()

    job.run()
    jobs.run("run_step", str(instance.pk), "nothing#1", 1)
    jobs.run("unheard-of", str(instance.pk))

    assert len(CALLS) == 1


def test_a_failing_step_is_tried_again_by_its_policy(make_instance: Any) -> None:
    with frozen_clock() as clock:
        instance = make_instance(one=machine(fail_twice, retry=Retry(attempts=3, delay="10s", backoff="linear")))
        run_jobs()
        for delay in (10, 20):
            assert clock.move(timedelta(seconds=delay - 1)) == 0
            assert clock.move(timedelta(seconds=1)) == 1
            run_jobs()

    instance.refresh_from_db()
    assert (instance.status, CALLS) == ("completed", [1, 2, 3])
    assert instance.results["one"]["output"] == "at last"
    assert_log_gives_state(instance)


def test_a_fatal_error_is_never_tried_again(make_instance: Any) -> None:
    instance = make_instance(one=machine(fail_for_good, retry=Retry(attempts=5)))
    run_jobs()

    assert Incident.objects.get(instance=instance).error_type == "FatalError"


def test_an_error_may_say_when_to_come_back(make_instance: Any) -> None:
    with frozen_clock() as clock:
        instance = make_instance(one=machine(come_back_later, retry=Retry(attempts=2)))
        run_jobs()

    timer = instance.timers.get()
    assert (timer.name, timer.due_at) == ("retry", clock.at + timedelta(seconds=90))


def test_a_coroutine_function_is_a_body_too(make_instance: Any) -> None:
    instance = make_instance(one=machine(wait_for_it))
    run_jobs()

    instance.refresh_from_db()
    assert instance.results["one"]["output"] == "async"


def test_what_cannot_be_stored_fails_the_step_with_the_path(make_instance: Any) -> None:
    make_instance(one=machine(not_json))
    run_jobs()

    incident = Incident.objects.get()
    assert incident.error_type == "InvalidValue"
    assert "$.a[0]" in incident.message


def test_a_body_may_choose_among_its_outcomes(make_instance: Any) -> None:
    one, small, large = machine(chooses, outcomes=("small", "large")), machine(note), machine(note)
    instance = make_instance(
        one=one,
        small=small,
        large=large,
        flow=[one.on("small") >> small, one.on("large") >> large],
        data={"amount": 99},
    )
    run_jobs()

    instance.refresh_from_db()
    assert "large" in instance.results
    assert "small" not in instance.results


@pytest.mark.parametrize("mode", ["transactional", "at_least_once"])
def test_progress_and_actions_stand_in_the_history(make_instance: Any, mode: str) -> None:
    instance = make_instance(one=machine(reports, mode=mode))
    run_jobs()

    names = list(WorkflowEvent.objects.of(instance).values_list("name", flat=True))
    assert names[3:8] == [
        "step_progress",
        "step_action_started",
        "step_action_completed",
        "step_action_started",
        "step_action_failed",
    ]
    assert StepExecution.objects.get().progress["fraction"] == 0.25
    assert_log_gives_state(instance)


def test_on_failure_may_handle_the_failure(make_instance: Any) -> None:
    instance = make_instance(one=machine(fail_for_good, on_failure=handles))
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, instance.data) == ("completed", {"handled": "never"})


def test_by_hand_a_failed_step_is_retried_with_better_data(make_user: Any, make_instance: Any) -> None:
    root = make_user("root", is_superuser=True)
    instance = make_instance(one=machine(fail_for_good))
    run_jobs()
    execution = StepExecution.objects.get()

    services.retry_step(execution, by=root, data={"account": "b"})
    assert executor().jobs[0].attempt == 2  # type: ignore[attr-defined]
    run_jobs()

    incident = Incident.objects.get()
    assert (incident.count, incident.status) == (2, "open")
    services.skip_step(execution, by=root, reason="paid in cash", output={"paid": True})
    instance.refresh_from_db()
    assert (instance.status, instance.results["one"]["output"]) == ("completed", {"paid": True})
    assert Incident.objects.get().status == "resolved"
    assert_log_gives_state(instance)


def test_a_lost_message_is_sent_again(make_instance: Any) -> None:
    with frozen_clock() as clock:
        instance = make_instance(one=machine(note))
        executor().jobs.clear()  # type: ignore[attr-defined]
        assert sweep() == {"requeued": 0, "interrupted": 0, "stuck": 0}
        clock.move(timedelta(seconds=61))
        assert sweep()["requeued"] == 1
        assert sweep()["requeued"] == 0
    run_jobs()

    instance.refresh_from_db()
    assert instance.status == "completed"


def test_a_worker_whose_lease_is_over_is_replaced_and_cannot_write_any_more(make_instance: Any, settings: Any) -> None:
    instance = make_instance(one=machine(note))
    job = executor().jobs.pop()  # type: ignore[attr-defined]
    claimed = machine_steps.claim(job.instance_id, job.key, job.attempt)
    assert claimed is not None
    assert sweep()["interrupted"] == 0
    StepExecution.objects.update(lease_until="2020-01-01T00:00:00Z")

    assert sweep()["interrupted"] == 1
    jobs_before = list(executor().jobs)  # type: ignore[attr-defined]
    with pytest.raises(TransitionNotAllowed):
        machine_steps.call_outside(claimed)
    run_jobs()

    instance.refresh_from_db()
    assert [job.attempt for job in jobs_before] == [2]
    assert (instance.status, StepExecution.objects.get().attempt) == ("completed", 2)
    assert_log_gives_state(instance)


def test_an_inline_step_that_raises_where_nobody_waits_is_an_incident(make_instance: Any) -> None:
    steps = {"rest": timer("1h"), "book": machine(write_group_and_fail, mode="inline"), "done": end("done")}
    with frozen_clock() as clock:
        instance = make_instance(**steps)
        assert clock.move(timedelta(hours=1)) == 1

    assert Incident.objects.get(instance=instance).step == "book"
    assert not Group.objects.filter(name="half done").exists()
    assert_log_gives_state(instance)


def test_an_inline_step_that_raises_behind_a_job_is_an_incident_and_the_job_is_done(make_instance: Any) -> None:
    instance = make_instance(
        first=machine(note, mode="transactional"), book=machine(write_group_and_fail, mode="inline")
    )
    run_jobs()

    assert Incident.objects.get(instance=instance).step == "book"
    assert instance.step_executions.get(step="first").status == "succeeded"


def test_arguments_are_evaluated_and_kept_as_the_input(make_instance: Any) -> None:
    instance = make_instance(
        one=machine(add, arguments={"a": "data.x", "b": "2"}, mode="transactional"), data={"x": 40}
    )
    run_jobs()

    execution = instance.step_executions.get()
    assert (execution.input, execution.output) == ({"a": 40, "b": 2}, 42)


def test_the_ticker_looks_once_and_refuses_nonsense(make_instance: Any, capsys: Any) -> None:
    make_instance(rest=timer("1h"))
    Timer.objects.update(due_at="2020-01-01T00:00:00Z")

    call_command("workflows_ticker", "--once")

    assert "1 timers fired" in capsys.readouterr().out
    assert WorkflowInstance.objects.get().status == "completed"
    with pytest.raises(CommandError):
        call_command("workflows_ticker", "--interval", "0")


def test_migrating_gives_the_cluster_a_schedule_that_looks_at_the_agenda(make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    for _ in range(2):
        executor().install()
    schedule = Schedule.objects.get(name="django_workflows")
    make_instance(rest=timer("1h"))
    Timer.objects.update(due_at="2020-01-01T00:00:00Z")

    import_string(schedule.func)()

    assert WorkflowInstance.objects.get().status == "completed"


def test_the_immediate_executor_runs_a_chain_without_nesting(make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_EXECUTOR = "immediate"

    instance = make_instance(**{f"s{number}": machine(note, mode="transactional") for number in range(60)})

    instance = WorkflowInstance.objects.get(pk=instance.pk)
    assert (instance.status, len(CALLS)) == ("completed", 60)


def test_a_rolled_back_start_leaves_no_job(make_workflow: Any) -> None:
    from django.db import transaction

    workflow = make_workflow(one=machine(note))
    services.publish(workflow, by=services.SYSTEM)

    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012 - what comes before the error is the point
        services.start(workflow, by=services.SYSTEM)
        raise RuntimeError

    assert not WorkflowInstance.objects.exists()
    assert executor().jobs == []  # type: ignore[attr-defined]
