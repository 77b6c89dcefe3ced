from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from django_workflows import (
    Retry,
    approval,
    decision,
    end,
    fork,
    group,
    join,
    listeners,
    machine,
    services,
    signals,
    timer,
)
from django_workflows.core.events import CATALOGUE, EventName
from django_workflows.engine import machine_steps
from django_workflows.engine.executors import executor
from django_workflows.engine.recovery import sweep
from django_workflows.models import HumanTask, StepExecution, WorkflowEvent
from django_workflows.testing import decide_as, frozen_clock, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)


def busy(ctx: Any) -> None:
    ctx.progress(1, of=2, text="half", source="test")
    with ctx.action("upload", text="sending", size=3):
        pass
    if ctx.attempt < 2:
        with ctx.action("call"):
            raise OSError("no line")


def sleepy(ctx: Any) -> None:
    time.sleep(5)


def give_up(ctx: Any) -> None:
    raise ValueError("for good")


@pytest.fixture
def heard() -> Any:
    """Every signal that is sent while the test runs."""
    found: list[dict[str, Any]] = []

    def hear(**sent: Any) -> None:
        found.append(sent)

    for signal in signals.SIGNALS.values():
        signal.connect(hear, weak=False)
    yield found
    for signal in signals.SIGNALS.values():
        signal.disconnect(hear)


def everything_that_can_happen(make_user: Any, make_instance: Any) -> None:
    ann, ben, root = make_user("ann", "team"), make_user("ben", "team"), make_user("root", is_superuser=True)
    ask = {"assign": group("team")}
    split, work, talk, rest, meet = (
        fork(),
        machine(busy, retry=Retry(attempts=2)),
        approval(**ask, due="2d", remind="1d"),
        timer("1h"),
        join(),
    )
    slow = machine(sleepy, timeout="0.05s", outcomes=("done",))
    gate, fails, skipped, done = decision(), machine(give_up), machine(busy, condition="false"), end("done")
    with frozen_clock() as clock:
        instance = make_instance(
            split=split, work=work, talk=talk, rest=rest, meet=meet, gate=gate, fails=fails, skipped=skipped, done=done, slow=slow,
            flow=[split >> [work, talk, rest] >> meet >> slow, slow.on_failure >> gate, gate.otherwise >> fails >> skipped >> done],
        )  # fmt: skip
        run_jobs()
        clock.move(timedelta(minutes=10))
        run_jobs()
        clock.move(timedelta(days=3))
        task = HumanTask.objects.get()
        services.claim(task, by=ann)
        services.comment(task, "a word", by=ann)
        services.comment(instance, "another", by=root)
        services.release(task, by=ann)
        services.reassign(task, by=ann, to=ben, reason="his field")
        services.pause(instance, by=root, reason="audit")
        services.resume(instance, by=root)
        clock.move(timedelta(hours=1))
        services.decide(task, "approved", by=ben, comment="fine")
        run_jobs()
        services.skip_step(StepExecution.objects.get(step="fails"), by=root, reason="paid by hand")

        other = services.start("sample", by=ann)
        job = executor().jobs.pop()  # type: ignore[attr-defined]
        machine_steps.claim(job.instance_id, job.key, job.attempt)
        StepExecution.objects.filter(instance=other, step="work").update(lease_until="2020-01-01T00:00:00Z")
        sweep()
        services.cancel(other, by=ann, reason="not needed")
        services.fail(services.start("sample", by=ann), by=root, reason="a mess")
        services.hold(other, by=root, reason="the auditors ask")
        services.lift_hold(other, by=root, reason="they have seen it")
        services.retire("sample", by=root)


def test_every_declared_event_is_emitted_with_every_field_filled_and_heard(
    make_user: Any, make_instance: Any, heard: Any
) -> None:
    everything_that_can_happen(make_user, make_instance)

    lines = list(WorkflowEvent.objects.order_by("id"))
    declared = set(EventName)
    assert {EventName(line.name) for line in lines} >= declared, declared - {line.name for line in lines}
    assert [sent["event"].pk for sent in heard] == [line.pk for line in lines]
    assert {name.value for name in CATALOGUE} == {name.value for name in EventName}
    for name in declared:
        of_name = [line for line in lines if line.name == name]
        for field in CATALOGUE[name]:
            assert (
                any(line.payload[field] not in (None, "", {}, []) for line in of_name) or field in MAY_BE_EMPTY[name]
            ), (name, field)
        assert all(line.actor_name for line in of_name)
        if name.startswith(("step", "human_task", "timer", "incident")):
            assert all(line.step and line.step_index and line.attempt for line in of_name), name
        if name in TIMED:
            assert all(line.duration is not None for line in of_name), name


#: Fields that hold something only in circumstances that this story does not bring about.
MAY_BE_EMPTY: dict[str, tuple[str, ...]] = dict.fromkeys(EventName, ()) | {
    EventName.WORKFLOW_STARTED: ("data",),
    EventName.WORKFLOW_COMPLETED: ("output",),
    EventName.WORKFLOW_RESUMED: ("reason",),
    EventName.STEP_STARTED: ("scope", "branch"),
    EventName.STEP_COMPLETED: ("changes",),
    EventName.HUMAN_TASK_CREATED: ("description",),
    EventName.HUMAN_TASK_DECIDED: ("form",),
    EventName.HUMAN_TASK_REASSIGNED: ("slot",),
    EventName.STEP_ACTION_FAILED: (),
}  # fmt: skip

TIMED = {
    "workflow_completed",
    "workflow_canceled",
    "workflow_failed",
    "step_completed",
    "step_failed",
    "step_canceled",
    "step_action_completed",
    "step_action_failed",
    "human_task_completed",
}


def test_a_receiver_that_raises_disturbs_nothing_and_the_others_hear(make_instance: Any, heard: Any) -> None:
    def broken(**sent: Any) -> None:
        raise RuntimeError("receiver")

    signals.SIGNALS[EventName.WORKFLOW_STARTED].connect(broken)

    instance = make_instance(rest=timer("1h"))

    signals.SIGNALS[EventName.WORKFLOW_STARTED].disconnect(broken)
    assert instance.status == "waiting"
    assert "workflow_started" in [sent["event"].name for sent in heard]


def test_nothing_is_announced_for_what_was_rolled_back(make_workflow: Any, heard: Any) -> None:
    from django.db import transaction

    workflow = make_workflow(rest=timer("1h"))
    services.publish(workflow, by=services.SYSTEM)
    heard.clear()

    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012 - what comes before the error is the point
        services.start(workflow, by=services.SYSTEM)
        assert heard == []
        raise RuntimeError

    assert heard == []


def test_sensitive_values_are_hidden_from_signals_and_listeners(make_instance: Any, heard: Any) -> None:
    told: list[Any] = []
    listener = listeners.start_listening(told.append)

    instance = make_instance(
        rest=timer("1h"), sensitive=("iban",), data={"iban": "NL91", "a": {"password": "x"}, "b": 1}
    )

    listeners.stop_listening(listener)
    started = next(sent for sent in heard if sent["event"].name == "workflow_started")
    assert started["payload"]["data"] == {"iban": "•••", "a": {"password": "•••"}, "b": 1}
    assert told[1].payload["data"]["iban"] == "•••"
    assert next(listeners.read_log(instance.pk)).payload["data"]["iban"] == "•••"
    instance.refresh_from_db()
    assert instance.data["iban"] == "NL91"


def test_listeners_hear_in_order_and_one_that_raises_or_is_asynchronous_is_no_matter(
    make_user: Any, make_instance: Any
) -> None:
    maria = make_user("maria", "team")
    order: list[int] = []

    async def later(event: Any) -> None:
        order.append(event.sequence)

    def broken(event: Any) -> None:
        raise RuntimeError

    instance = make_instance(ask=approval(assign=group("team")))
    made = [listeners.start_listening(broken), listeners.start_listening(later, instance.pk)]
    services.start("sample", by=services.SYSTEM)

    decide_as(maria, instance, "approved")

    for listener in made:
        listeners.stop_listening(listener)
    assert order == sorted(order)
    assert order[-1] == WorkflowEvent.objects.of(instance).count()
