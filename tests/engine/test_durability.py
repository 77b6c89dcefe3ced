"""Modes, time limits, leases, cancellation, limits: what a step survives."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection

from django_workflows import CancellationError, Retry, approval, decision, end, fork, group, join, machine, services
from django_workflows.engine import heartbeat, jobs, machine_steps
from django_workflows.engine.executors import executor
from django_workflows.engine.recovery import sweep
from django_workflows.exceptions import (
    InvalidDefinition,
    InvalidInput,
    LimitReached,
    PayloadTooLarge,
    TransitionNotAllowed,
)
from django_workflows.models import Incident, StepExecution, Timer, WorkflowEvent, WorkflowInstance
from django_workflows.testing import assert_log_gives_state, decide_as, frozen_clock, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)

CALLS: list[Any] = []
GO_ON = threading.Event()


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    CALLS.clear()
    GO_ON.clear()


@pytest.fixture
def make_instance(make_many: Any) -> Any:
    return make_many("durability")


def note(ctx: Any) -> int:
    CALLS.append((ctx.step, ctx.attempt, ctx.idempotency_key))
    return len(CALLS)


def fails(ctx: Any) -> None:
    CALLS.append(ctx.attempt)
    raise OSError("no line")


def sleeps(ctx: Any) -> None:
    CALLS.append(ctx.attempt)
    time.sleep(5)


def swallows_everything(ctx: Any) -> None:
    try:
        time.sleep(5)
    except Exception:
        CALLS.append("swallowed")


async def sleeps_async(ctx: Any) -> None:
    CALLS.append(ctx.attempt)
    await asyncio.sleep(5)


def writes_and_sleeps(ctx: Any) -> None:
    Group.objects.get_or_create(name="half done")
    time.sleep(5)


def dies() -> None:
    """What a killed worker leaves: the claim, and nothing after it."""
    StepExecution.objects.filter(status="running").update(lease_until="2020-01-01T00:00:00Z")


def work_off() -> None:
    """What a worker in another thread does."""
    run_jobs()
    connection.close()


def names(instance: Any) -> list[str]:
    return list(WorkflowEvent.objects.of(instance).values_list("name", flat=True))


def take_up() -> Any:
    job = executor().jobs.pop(0)  # type: ignore[attr-defined]
    return machine_steps.claim(job.instance_id, job.key, job.attempt)


# modes


def test_at_most_once_is_not_repeated_when_its_worker_is_lost_but_put_to_a_person(
    make_user: Any, make_instance: Any
) -> None:
    root = make_user("root", is_superuser=True)
    instance = make_instance(pay=machine(note, mode="at_most_once"), done=end("paid"))
    claimed = take_up()
    dies()

    assert sweep()["interrupted"] == 1
    assert sweep() == {"requeued": 0, "interrupted": 0, "stuck": 0}
    with pytest.raises(TransitionNotAllowed):
        machine_steps.call_outside(claimed)
    incident = Incident.objects.get()
    assert (incident.kind, incident.status, len(CALLS)) == ("in_doubt", "open", 1)

    services.resolve(incident, "skip", by=root, reason="the bank says it went out", output={"receipt": 7})
    instance.refresh_from_db()
    assert (instance.status, instance.outcome) == ("completed", "paid")
    assert instance.results["pay"]["output"] == {"receipt": 7}
    assert_log_gives_state(instance)


def test_at_most_once_that_raises_is_not_tried_again(make_instance: Any) -> None:
    make_instance(pay=machine(fails, mode="at_most_once"))
    run_jobs()

    assert CALLS == [1]
    assert Incident.objects.get().kind == "step_failed"


def test_at_most_once_cannot_be_given_a_retry(make_instance: Any) -> None:
    with pytest.raises(InvalidDefinition, match="never repeated"):
        make_instance(pay=machine(note, mode="at_most_once", retry=Retry(attempts=2)))


def test_a_transactional_step_whose_message_came_to_nothing_is_claimed_so_that_its_deaths_count(
    make_instance: Any, settings: Any
) -> None:
    settings.WORKFLOWS_MAX_RECOVERY_ATTEMPTS = 2
    instance = make_instance(pay=machine(note, mode="transactional"))
    key, deaths = f"{instance.pk}", 0
    executor().jobs.clear()  # type: ignore[attr-defined]
    with frozen_clock() as clock:
        clock.move(timedelta(minutes=5))
        assert sweep()["requeued"] == 1
        while executor().jobs:  # type: ignore[attr-defined]
            job = executor().jobs.pop()  # type: ignore[attr-defined]
            machine_steps.claim(key, job.key, job.attempt, is_repeat=True)
            dies()
            deaths += 1
            sweep()

    assert deaths == 3
    assert Incident.objects.get().kind == "worker_lost"
    assert_log_gives_state(instance)


def test_a_claimed_transactional_step_still_commits_with_its_body(make_instance: Any) -> None:
    instance = make_instance(pay=machine(note, mode="transactional"))
    job = executor().jobs.pop()  # type: ignore[attr-defined]
    jobs.run("repeat_step", job.instance_id, job.key, job.attempt)

    instance.refresh_from_db()
    assert (instance.status, len(CALLS)) == ("completed", 1)
    assert_log_gives_state(instance)


def test_the_key_of_a_step_is_the_same_for_every_attempt(make_instance: Any) -> None:
    instance = make_instance(call=machine(note))
    for _ in range(2):
        take_up()
        dies()
        sweep()
    run_jobs()

    assert [("call", 3, f"{instance.pk}:call:1")] == CALLS
    execution = StepExecution.objects.get()
    assert (execution.attempt, execution.interruptions, execution.status) == (3, 2, "succeeded")


def test_recoveries_are_bounded_per_definition_and_per_instance(make_instance: Any, settings: Any) -> None:
    make_instance(call=machine(note), max_recoveries=0)
    take_up()
    dies()
    sweep()
    assert Incident.objects.get().kind == "worker_lost"
    Incident.objects.all().delete()

    settings.WORKFLOWS_MAX_INSTANCE_RECOVERIES = 1
    instance = make_instance(a=machine(note), b=machine(note))
    for _ in range(3):
        if executor().jobs:  # type: ignore[attr-defined]
            take_up()
            dies()
            sweep()
    assert Incident.objects.get().kind == "worker_lost"
    assert_log_gives_state(instance)


def test_a_result_that_the_database_did_not_take_is_written_again_and_the_body_not_called_again(
    make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_instance(call=machine(note))
    real, failures = machine_steps.advance, iter([OperationalError("gone"), OperationalError("still gone")])

    def sometimes(row: Any, command: Any) -> Any:
        if type(command).__name__ == "CompleteStep" and (error := next(failures, None)):
            raise error
        return real(row, command)

    monkeypatch.setattr(machine_steps, "advance", sometimes)
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, len(CALLS)) == ("completed", 1)


def test_a_result_that_was_written_although_the_answer_was_lost_counts_once(
    make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_instance(call=machine(note))
    real, failures = machine_steps._complete, iter([OperationalError("the answer was lost")])

    def executed_then_error(*args: Any) -> None:
        real(*args)
        if error := next(failures, None):
            raise error

    monkeypatch.setattr(machine_steps, "_complete", executed_then_error)
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, len(CALLS)) == ("completed", 1)
    assert names(instance).count("step_completed") == 1


# time limits


@pytest.mark.parametrize("body", [sleeps, sleeps_async, writes_and_sleeps, swallows_everything])
@pytest.mark.parametrize("mode", ["at_least_once", "transactional"])
def test_a_step_that_takes_too_long_is_stopped_and_counts_as_failed(make_instance: Any, body: Any, mode: str) -> None:
    retry = Retry(attempts=2, backoff="fixed", delay="1m")
    instance = make_instance(slow=machine(body, timeout="0.1s", retry=retry, mode=mode))
    started = time.monotonic()
    with frozen_clock() as clock:
        run_jobs()
        assert StepExecution.objects.get().next_attempt_at == clock() + timedelta(minutes=1)
        clock.move(timedelta(minutes=1))
        run_jobs()

    assert time.monotonic() - started < 4.5
    assert names(instance).count("step_timed_out") == 2
    execution = StepExecution.objects.get()
    assert (execution.error_type, execution.attempt, execution.next_attempt_at) == ("StepTimeout", 2, None)
    assert Incident.objects.get().error_type == "StepTimeout"
    assert "swallowed" not in CALLS
    if mode == "transactional":
        assert not Group.objects.filter(name="half done").exists()
    assert_log_gives_state(instance)


def test_a_timeout_of_at_most_once_leaves_a_doubt(make_instance: Any) -> None:
    make_instance(slow=machine(sleeps, timeout="0.1s", mode="at_most_once"))
    run_jobs()

    assert Incident.objects.get().kind == "in_doubt"


def test_where_no_alarm_reaches_the_body_it_is_judged_when_it_is_through(make_instance: Any) -> None:
    def quick(ctx: Any) -> None:
        time.sleep(0.3)

    instance = make_instance(slow=machine(quick, timeout="0.1s"))
    thread = threading.Thread(target=work_off)
    thread.start()
    thread.join()

    assert "step_timed_out" in names(instance)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"timeout": "soon"}, "invalid_duration"),
        ({"timeout": "0s"}, "invalid_duration"),
        ({"timeout": "5s", "mode": "inline"}, "timeout_inline"),
        ({"mode": "exactly_twice"}, "unknown_mode"),
        ({"retry": Retry(delays=("soon",))}, "invalid_retry"),
    ],
)
def test_wrong_options_of_a_step_are_problems(make_instance: Any, options: Any, code: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        make_instance(work=machine(note, **options))

    assert code in {problem.code for problem in refusal.value.problems}


def test_delays_can_be_listed(make_instance: Any) -> None:
    make_instance(work=machine(fails, retry=Retry(attempts=4, delays=("10s", "1m"))))
    waits = []
    with frozen_clock() as clock:
        run_jobs()
        while timer := Timer.objects.filter(status="open").first():
            waits.append(timer.due_at - clock())
            clock.move(timer.due_at - clock())
            run_jobs()

    assert waits == [timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=1)]


# signs of life


def test_a_long_body_keeps_its_lease(make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_LEASE_SECONDS = 1

    def long(ctx: Any) -> None:
        CALLS.append(ctx.attempt)
        time.sleep(2)

    instance = make_instance(work=machine(long))
    worker = threading.Thread(target=work_off)
    worker.start()
    interrupted = 0
    while worker.is_alive():
        interrupted += sweep()["interrupted"]
        time.sleep(0.2)
    worker.join()

    instance.refresh_from_db()
    assert (instance.status, interrupted, CALLS) == ("completed", 0, [1])


def test_without_signs_of_life_the_lease_runs_out(
    make_instance: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WORKFLOWS_LEASE_SECONDS = 1
    monkeypatch.setattr(heartbeat, "_beat", lambda pulse: None)
    make_instance(work=machine(note))
    take_up()
    time.sleep(1.2)

    assert sweep()["interrupted"] == 1


def test_a_chatty_step_costs_few_writes_and_its_last_word_is_kept(make_instance: Any) -> None:
    def chatty(ctx: Any) -> None:
        for number in range(20_000):
            ctx.progress(number + 1, of=20_000, text=str(number))

    instance = make_instance(work=machine(chatty))
    started = time.monotonic()
    run_jobs()

    took = time.monotonic() - started
    written = names(instance).count("step_progress")
    assert written <= 2 + took / 0.5
    progress = StepExecution.objects.get().progress
    assert progress is not None
    assert (progress["fraction"], progress["text"]) == (1.0, "19999")
    assert_log_gives_state(instance)


def test_progress_is_seen_while_a_silent_body_runs_on(make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_PROGRESS_SECONDS = 0.1

    def falls_silent(ctx: Any) -> None:
        ctx.progress(1, of=3)
        ctx.progress(2, of=3, text="two thirds")
        GO_ON.wait(10)

    make_instance(work=machine(falls_silent))
    worker = threading.Thread(target=work_off)
    worker.start()
    seen: Any = None
    for _ in range(100):
        seen = StepExecution.objects.get().progress
        if seen and seen["text"] == "two thirds":
            break
        time.sleep(0.05)
    GO_ON.set()
    worker.join()

    assert seen["fraction"] == pytest.approx(2 / 3, abs=0.001)


# cancellation


def in_hand(instance: Any) -> threading.Thread:
    """A worker that has the instance's step in hand."""
    worker = threading.Thread(target=work_off)
    worker.start()
    for _ in range(200):
        if StepExecution.objects.filter(instance=instance, status="running").exists():
            return worker
        time.sleep(0.02)
    raise AssertionError("the step did not start")


def ends_normally(ctx: Any) -> str:
    GO_ON.wait(10)
    ctx.set("done", True)
    return "ended"


def looks_out(ctx: Any) -> None:
    for _ in range(500):
        ctx.check_cancellation()
        time.sleep(0.01)
    raise AssertionError("nobody canceled it")


def shields(ctx: Any) -> None:
    with ctx.shield():
        GO_ON.wait(10)
        ctx.check_cancellation()
        CALLS.append("the shielded part is through")
    try:
        ctx.check_cancellation()
    except CancellationError:
        CALLS.append("cleaned up")
        raise


def test_a_step_at_work_ends_before_its_instance_is_canceled(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "team")
    begin, work, ask, meet = fork(), machine(ends_normally), approval(assign=group("team"), due="3d"), join()
    after = machine(note)
    instance = make_instance(
        by=maria, begin=begin, work=work, ask=ask, meet=meet, after=after, flow=[begin >> [work, ask] >> meet >> after]
    )
    worker = in_hand(instance)

    canceling = services.cancel(instance, by=maria, reason="not needed")

    assert (canceling.status, canceling.cancel_requested_at is not None) == ("running", True)
    assert not Timer.objects.filter(status="open").exists()
    assert [e.status for e in StepExecution.objects.filter(step="ask")] == ["canceled"]
    services.cancel(instance, by=maria)  # once more changes nothing
    for verb in (services.pause, services.resume):
        with pytest.raises(TransitionNotAllowed):
            verb(instance, by=services.SYSTEM)
    GO_ON.set()
    worker.join()
    instance.refresh_from_db()
    assert (instance.status, instance.outcome) == ("canceled", "canceled")
    assert instance.results["work"]["output"] == "ended"
    assert names(instance).count("workflow_canceled") == 1
    last = WorkflowEvent.objects.of(instance).last()
    assert last is not None
    assert (last.payload["requested_by"], last.payload["reason"]) == ("maria", "not needed")
    assert CALLS == []
    assert_log_gives_state(instance)


def test_a_step_that_asks_stops_and_the_wait_sees_the_end(make_instance: Any) -> None:
    instance = make_instance(work=machine(looks_out, retry=Retry(attempts=5)))
    worker = in_hand(instance)

    canceled = services.cancel(instance, by=services.SYSTEM, reason="stop", wait="5s")

    worker.join()
    assert canceled.status == "canceled"
    assert StepExecution.objects.get().status == "canceled"
    assert "step_failed" not in names(instance)
    assert_log_gives_state(instance)


def test_a_shielded_section_is_finished_and_the_step_may_clean_up(make_instance: Any) -> None:
    instance = make_instance(work=machine(shields))
    worker = in_hand(instance)
    services.cancel(instance, by=services.SYSTEM)
    GO_ON.set()
    worker.join()

    instance.refresh_from_db()
    assert instance.status == "canceled"
    assert CALLS == ["the shielded part is through", "cleaned up"]


def test_a_wait_ends_with_its_patience_and_force_closes_at_once(make_instance: Any) -> None:
    instance = make_instance(work=machine(ends_normally))
    worker = in_hand(instance)

    assert services.cancel(instance, by=services.SYSTEM, wait=0.3).status == "running"
    assert services.cancel(instance, by=services.SYSTEM, force=True).status == "canceled"

    GO_ON.set()
    worker.join()
    instance.refresh_from_db()
    assert instance.data == {}
    assert_log_gives_state(instance)


def test_a_worker_lost_while_canceling_does_not_keep_the_instance(make_instance: Any) -> None:
    instance = make_instance(work=machine(note))
    take_up()
    services.cancel(instance, by=services.SYSTEM)
    dies()
    sweep()

    instance.refresh_from_db()
    assert instance.status == "canceled"
    assert_log_gives_state(instance)


def test_a_failure_while_canceling_is_no_incident(make_instance: Any) -> None:
    def fails_late(ctx: Any) -> None:
        GO_ON.wait(10)
        raise OSError("late")

    instance = make_instance(work=machine(fails_late, retry=Retry(attempts=5)))
    worker = in_hand(instance)
    services.cancel(instance, by=services.SYSTEM)
    GO_ON.set()
    worker.join()

    instance.refresh_from_db()
    assert instance.status == "canceled"
    assert not Incident.objects.open().exists()
    assert_log_gives_state(instance)


@pytest.mark.parametrize("wait", ["soon", -1, float("nan")])
def test_a_wrong_wait_is_refused_and_cancels_nothing(make_instance: Any, wait: Any) -> None:
    instance = make_instance(work=machine(note))

    with pytest.raises(InvalidInput):
        services.cancel(instance, by=services.SYSTEM, wait=wait)

    instance.refresh_from_db()
    assert instance.cancel_requested_at is None


# the greatest duration, and other limits


def test_an_instance_that_takes_too_long_fails_and_a_pause_puts_that_off(make_user: Any, make_instance: Any) -> None:
    make_user("maria", "team")
    with frozen_clock() as clock:
        instance = make_instance(ask=approval(assign=group("team")), max_duration="2d")
        clock.move(timedelta(days=1))
        services.pause(instance, by=services.SYSTEM)
        assert clock.move(timedelta(days=5)) == 0
        services.resume(instance, by=services.SYSTEM)
        assert clock.move(timedelta(hours=23)) == 0
        assert clock.move(timedelta(hours=2)) == 1

    instance.refresh_from_db()
    assert (instance.status, instance.error_type) == ("failed", "MaxDurationExceeded")
    assert not StepExecution.objects.open().exists()
    assert_log_gives_state(instance)


def test_the_timer_of_the_greatest_duration_ends_with_the_instance(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "team")
    instance = make_instance(ask=approval(assign=group("team")), max_duration="2d")

    decide_as(maria, instance, "approved")

    assert Timer.objects.get().status == "canceled"
    assert_log_gives_state(instance)


def test_a_history_that_grows_too_long_is_warned_of_and_ended(
    make_instance: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WORKFLOWS_EVENT_SOFT_LIMIT, settings.WORKFLOWS_EVENT_WARN_EVERY = 20, 10
    settings.WORKFLOWS_EVENT_HARD_LIMIT = 60
    instance = make_loop(make_instance)
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, instance.error_type) == ("failed", "EventLimitExceeded")
    warnings = [record for record in caplog.records if "events; at" in record.getMessage()]
    assert 3 <= len(warnings) <= 5
    assert instance.sequence < 70
    assert_log_gives_state(instance)


def make_loop(make_instance: Any) -> Any:
    again, loop, out = machine(note), decision(), end()
    flow = [again >> loop, loop.when("data.stop == true") >> out, loop.otherwise >> again]
    return make_instance(again=again, loop=loop, out=out, max_visits=100_000, flow=flow, data={"stop": False})


def test_instances_are_nested_only_so_deep(make_instance: Any, make_workflow: Any, settings: Any) -> None:
    settings.WORKFLOWS_MAX_NESTING = 2
    one = make_instance(work=machine(note))
    two = services.start("durability", by=services.SYSTEM, parent=one)
    three = services.start("durability", by=services.SYSTEM, parent=two)

    with pytest.raises(PayloadTooLarge, match="2 deep"):
        services.start("durability", by=services.SYSTEM, parent=three)
    assert WorkflowInstance.objects.count() == 3


def test_no_more_instances_live_than_the_definition_allows(make_instance: Any) -> None:
    first = make_instance(work=machine(note), max_active=2)
    services.start("durability", by=services.SYSTEM, idempotency_key="a")

    with pytest.raises(LimitReached, match="2 instances"):
        services.start("durability", by=services.SYSTEM)
    assert services.start("durability", by=services.SYSTEM, idempotency_key="a")
    services.cancel(first, by=services.SYSTEM)

    assert services.start("durability", by=services.SYSTEM).status == "running"
    assert WorkflowInstance.objects.count() == 3


@pytest.mark.postgres
def test_of_many_who_start_at_once_no_more_get_in_than_may(make_instance: Any) -> None:
    make_instance(work=machine(note), max_active=4)
    answers: list[str] = []

    def start() -> None:
        try:
            services.start("durability", by=services.SYSTEM)
            answers.append("in")
        except LimitReached:
            answers.append("out")
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["in"] * 3 + ["out"] * 9


# transient workflows


def adds(ctx: Any) -> int:
    CALLS.append(ctx.step)
    ctx.set("sum", ctx.get("sum", 0) + 1)
    return int(ctx.get("sum"))


def fails_once(ctx: Any) -> str:
    CALLS.append(ctx.attempt)
    if ctx.attempt == 1:
        raise OSError("not yet")
    return "at last"


def test_a_transient_workflow_keeps_its_end_and_no_steps(make_instance: Any) -> None:
    instance = make_instance(
        a=machine(adds), b=machine(adds, mode="transactional"), c=machine(adds, mode="inline"), done=end("fine"),
        durable=False, outputs={"sum": "data.sum"},
    )  # fmt: skip
    run_jobs()

    instance.refresh_from_db()
    assert CALLS == ["a", "b", "c"]
    assert (instance.status, instance.outcome, instance.output) == ("completed", "fine", {"sum": 3})
    assert instance.results["b"]["output"] == 2
    assert names(instance) == ["workflow_started", "workflow_completed"]
    assert not StepExecution.objects.exists()
    assert_log_gives_state(instance)


def test_a_transient_workflow_retries_within_its_worker_and_fails_with_its_step(make_instance: Any) -> None:
    retry = Retry(attempts=2, delay="0.05s")
    instance = make_instance(a=machine(fails_once, retry=retry), b=machine(fails), durable=False)
    run_jobs()

    instance.refresh_from_db()
    assert CALLS == [1, 2, 1]
    assert (instance.status, instance.error, instance.error_type) == ("failed", "no line", "OSError")
    assert not Incident.objects.exists()
    assert_log_gives_state(instance)


def test_a_transient_instance_starts_again_from_its_beginning_when_its_worker_is_lost(
    make_instance: Any, settings: Any
) -> None:
    from django_workflows.engine import transient

    instance = make_instance(a=machine(adds), b=machine(adds), durable=False, max_recoveries=1)
    job = executor().jobs.pop()  # type: ignore[attr-defined]
    transient._begin(job.instance_id, job.attempt)
    job.run()  # the same message once more, while the worker lives: nothing
    assert CALLS == []
    WorkflowInstance.objects.update(lease_until="2020-01-01T00:00:00Z")
    assert sweep()["interrupted"] == 1
    job.run()  # from before: stale
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, CALLS, instance.data) == ("completed", ["a", "b"], {"sum": 2})
    assert names(instance) == ["workflow_started", "workflow_interrupted", "workflow_completed"]
    assert_log_gives_state(instance)


def test_a_transient_instance_that_kills_its_workers_fails(make_instance: Any) -> None:
    from django_workflows.engine import transient

    instance = make_instance(a=machine(adds), durable=False, max_recoveries=1)
    for _ in range(2):
        job = executor().jobs.pop()  # type: ignore[attr-defined]
        transient._begin(job.instance_id, job.attempt)
        WorkflowInstance.objects.update(lease_until="2020-01-01T00:00:00Z")
        sweep()

    instance.refresh_from_db()
    assert (instance.status, instance.error_type) == ("failed", "WorkerLost")
    assert_log_gives_state(instance)


def test_a_transient_instance_that_nobody_took_up_is_queued_again_and_can_be_canceled(make_instance: Any) -> None:
    with frozen_clock() as clock:
        instance = make_instance(a=machine(adds), durable=False)
        executor().jobs.clear()  # type: ignore[attr-defined]
        clock.move(timedelta(minutes=2))
        assert sweep()["requeued"] == 1
        assert sweep()["requeued"] == 0
    with pytest.raises(TransitionNotAllowed):
        services.pause(instance, by=services.SYSTEM)
    services.cancel(instance, by=services.SYSTEM)
    run_jobs()

    instance.refresh_from_db()
    assert (instance.status, CALLS) == ("canceled", [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ask": approval(assign=group("x"))}, "transient_wait"),
        ({"work": machine(note, mode="at_most_once")}, "transient_mode"),
    ],
)
def test_a_transient_workflow_may_not_wait(make_instance: Any, body: Any, code: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        make_instance(durable=False, **body)

    assert code in {problem.code for problem in refusal.value.problems}
