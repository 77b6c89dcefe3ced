from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_workflows import approval, decision, end, fork, group, human, join, machine, timer, user
from django_workflows.core import commands as c
from django_workflows.core.machine import decide
from django_workflows.core.snapshot import Snapshot
from django_workflows.exceptions import AlreadyDecided, StaleAttempt, TransitionNotAllowed
from tests.core.stories import ANN, BEN, NOW, Story, compiled


def work(ctx: Any) -> None: ...


def ready(ctx: Any) -> bool:
    return True


ASK = {"assign": group("managers")}


def test_a_chain_of_inline_steps_runs_to_its_end_in_one_command() -> None:
    story = Story(compiled(one=machine(work, mode="inline"), two=machine(work, mode="inline")), output=5).start()

    assert (story.snapshot.status, story.snapshot.outcome) == ("completed", "completed")
    assert story.snapshot.steps["two"] == {"outcome": "succeeded", "output": 5}
    assert story.names == [
        "workflow_started",
        "step_started",
        "step_completed",
        "step_started",
        "step_completed",
        "workflow_completed",
    ]


def test_a_queued_step_waits_for_its_worker() -> None:
    story = Story(compiled(one=machine(work))).start()

    assert (story.snapshot.status, story.open) == ("running", ["one"])
    story.run(output={"a": 1}, changes={"b": 2})

    assert story.snapshot.status == "completed"
    assert story.snapshot.data == {"b": 2}
    assert story.snapshot.steps["one"]["output"] == {"a": 1}


def test_a_worker_whose_attempt_is_over_is_refused_and_changes_nothing() -> None:
    story = Story(compiled(one=machine(work), two=machine(work))).start()
    key = story.key("one")
    story.run()
    before = story.snapshot

    for command in (
        c.StartStep(key=key, attempt=1),
        c.CompleteStep(key=key, attempt=1),
        c.CompleteStep(key="two#1", attempt=2),
    ):
        with pytest.raises(StaleAttempt):
            story.send(command)
    assert story.snapshot is before


def test_the_first_true_condition_wins_in_drawing_order() -> None:
    route, small, large, huge = decision(), end("small"), end("large"), end("huge")
    flow = [
        route.when("data.amount > 100") >> large,
        route.when("data.amount > 1000") >> huge,
        route.otherwise >> small,
    ]
    definition = compiled(route=route, small=small, large=large, huge=huge, flow=flow)

    assert Story(definition).start(amount=5000).snapshot.outcome == "large"
    assert Story(definition).start(amount=26.85).snapshot.outcome == "small"


def test_no_true_condition_and_no_otherwise_is_an_incident_that_a_retry_with_better_data_resolves() -> None:
    route, stop = decision(), end("large")
    story = Story(compiled(route=route, stop=stop, flow=[route.when("data.amount > 100") >> stop])).start(amount=1)

    assert story.of("incident_raised")[0].payload["kind"] == "no_branch"
    assert story.snapshot.status == "waiting"
    story.send(c.RetryStep(key=story.key("route"), changes={"amount": 500}))

    assert (story.snapshot.outcome, story.snapshot.data) == ("large", {"amount": 500})
    assert [event.payload["resolution"] for event in story.of("incident_resolved")] == ["retried"]


def test_an_expression_that_fails_at_run_time_is_an_incident_and_not_a_crash() -> None:
    route, stop = decision(), end()
    story = Story(compiled(route=route, stop=stop, flow=[route.when("data.missing > 1") >> stop])).start()

    incident = story.of("incident_raised")[0]
    assert incident.payload["kind"] == "broken_expression"
    assert "missing" in incident.payload["message"]
    assert story.open == ["route"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"condition": "data.amount > 100"}, "condition", id="false-condition"),
        pytest.param({"skip_if": "data.amount < 100"}, "skip_if", id="true-skip-if"),
        pytest.param({"condition": "true", "skip_if": "true"}, "skip_if", id="both-are-honoured"),
    ],
)
def test_a_step_is_skipped_with_a_reason_and_the_flow_goes_on(options: dict[str, str], reason: str) -> None:
    story = Story(compiled(ask=approval(**ASK, **options), done=end("done"))).start(amount=1)

    assert story.snapshot.outcome == "done"
    assert reason in story.of("step_skipped")[0].payload["reason"]
    assert story.snapshot.steps["ask"]["outcome"] == "skipped"


def test_a_refusing_guard_skips_the_step() -> None:
    definition = compiled(ask=approval(**ASK, guard=ready), done=end("done"))

    assert Story(definition, guard=False).start().snapshot.outcome == "done"
    assert Story(definition, guard=True).start().open == ["ask"]


def test_all_branches_run_and_the_join_goes_on_once() -> None:
    both, a, b, meet, done = fork(), approval(**ASK), approval(**ASK), join(), end("done")
    story = Story(compiled(both=both, a=a, b=b, meet=meet, done=done, flow=[both >> [a, b] >> meet >> done])).start()

    assert story.open == ["a", "b"]
    story.decide("a", "approved")
    assert story.open == ["b", "meet"]
    story.decide("b", "approved")

    assert story.snapshot.outcome == "done"
    assert [event.step for event in story.of("step_completed")].count("meet") == 1
    assert story.snapshot.scopes == {}


def test_a_join_of_any_cancels_the_losers_with_their_tasks_and_timers() -> None:
    both, a, b, meet = fork(), approval(**ASK, due="1d"), approval(**ASK, due="1d"), join("any")
    story = Story(compiled(both=both, a=a, b=b, meet=meet, flow=[both >> [a, b] >> meet])).start()

    story.decide("a", "approved")

    assert story.snapshot.status == "completed"
    assert [event.step for event in story.of("human_task_canceled")] == ["b"]
    assert [event.step for event in story.of("timer_canceled")] == ["a", "b"]


def test_a_join_of_two_waits_for_two_of_three() -> None:
    split, meet = fork(), join(2)
    steps = {name: approval(**ASK) for name in "abc"}
    story = Story(compiled(split=split, **steps, meet=meet, flow=[split >> list(steps.values()) >> meet])).start()

    story.decide("b", "approved")
    assert story.snapshot.status == "waiting"
    story.decide("c", "approved")

    assert story.snapshot.status == "completed"
    assert [event.step for event in story.of("step_canceled")] == ["a"]


def test_a_join_waits_for_exactly_the_activated_branches() -> None:
    split, a, b, meet = fork(), approval(**ASK), approval(**ASK), join()
    flow = [split.when("data.a") >> a >> meet, split >> b >> meet]
    story = Story(compiled(split=split, a=a, b=b, meet=meet, flow=flow)).start(a=False)

    assert story.open == ["b"]
    assert story.decide("b", "approved").snapshot.status == "completed"


def test_a_branch_that_ends_does_not_block_the_join() -> None:
    split, a, b, stop, meet = fork(), approval(**ASK, outcomes=("yes", "no")), approval(**ASK), end(), join()
    flow = [split >> a, a.on("yes") >> meet, a.on("no") >> stop, split >> b >> meet]
    definition = compiled(split=split, a=a, b=b, stop=stop, meet=meet, flow=flow)

    for order in (("a", "b"), ("b", "a")):
        story = Story(definition).start()
        for step in order:
            story.decide(step, "no" if step == "a" else "approved")
        assert story.snapshot.status == "completed", order


def test_a_rejection_without_an_edge_ends_the_instance_from_within_a_branch() -> None:
    split, a, b, meet = fork(), approval(**ASK), approval(**ASK), join()
    story = Story(compiled(split=split, a=a, b=b, meet=meet, flow=[split >> [a, b] >> meet])).start()

    story.decide("b", "rejected")

    assert (story.snapshot.status, story.snapshot.outcome) == ("completed", "rejected")
    assert story.snapshot.tokens == {}


def test_forks_within_forks_join_in_order() -> None:
    outer, inner, a, b, c_, meet, meet2 = (
        fork(),
        fork(),
        approval(**ASK),
        approval(**ASK),
        approval(**ASK),
        join(),
        join(),
    )
    flow = [outer >> inner >> [a, b] >> meet >> meet2, outer >> c_ >> meet2]
    story = Story(compiled(outer=outer, inner=inner, a=a, b=b, c_=c_, meet=meet, meet2=meet2, flow=flow)).start()

    for step in ("c_", "a", "b"):
        story.decide(step, "approved")

    assert story.snapshot.status == "completed"


def test_parallel_branches_merge_what_they_changed() -> None:
    both, a, b, meet = fork(), machine(work), machine(work), join()
    story = Story(compiled(both=both, a=a, b=b, meet=meet, flow=[both >> [a, b] >> meet])).start(x=0, y=0)

    story.run(changes={"x": 1})
    story.run(changes={"y": 2})

    assert story.snapshot.data == {"x": 1, "y": 2}


def test_two_branches_that_write_different_values_are_an_incident() -> None:
    both, a, b, meet = fork(), machine(work), machine(work), join()
    story = Story(compiled(both=both, a=a, b=b, meet=meet, flow=[both >> [a, b] >> meet])).start(x=0)

    story.run(changes={"x": 1})
    story.run(changes={"x": 2})

    assert story.of("incident_raised")[0].payload["kind"] == "data_conflict"
    assert story.snapshot.data == {"x": 1}


def test_two_branches_that_write_the_same_value_agree() -> None:
    both, a, b, meet = fork(), machine(work), machine(work), join()
    story = Story(compiled(both=both, a=a, b=b, meet=meet, flow=[both >> [a, b] >> meet])).start(x=0)

    story.run(changes={"x": 1})
    story.run(changes={"x": 1})

    assert story.snapshot.status == "completed"


def test_a_loop_runs_as_often_as_people_send_back() -> None:
    draft, review = human(assign=user("ann")), approval(**ASK)
    story = Story(compiled(draft=draft, review=review, flow=[draft >> review, review.on("rejected") >> draft])).start()

    for _ in range(3):
        story.decide("draft", "completed")
        story.decide("review", "rejected")
    story.decide("draft", "completed")
    story.decide("review", "approved")

    assert story.snapshot.outcome == "approved"
    assert story.snapshot.visits == {"draft": 4, "review": 4}


def test_a_loop_that_never_ends_is_an_incident_at_its_bound() -> None:
    again, work_step, stop = decision(), machine(work, mode="inline"), end()
    flow = [work_step >> again, again.when("true") >> work_step, again.otherwise >> stop]
    story = Story(compiled(work_step=work_step, again=again, stop=stop, flow=flow, max_visits=5)).start()

    assert story.snapshot.visits["work_step"] == 6
    assert story.of("incident_raised")[0].payload["kind"] == "loop_bound"


def test_a_timer_holds_no_worker_and_goes_on_when_it_fires() -> None:
    story = Story(compiled(rest=timer("2h"), done=end("done"))).start()

    assert story.of("timer_started")[0].payload["due_at"] == (NOW + timedelta(hours=2)).isoformat()
    assert story.snapshot.status == "waiting"
    story.fire("rest", after=timedelta(hours=3))

    assert story.snapshot.outcome == "done"


def test_a_timer_waits_until_what_an_expression_says() -> None:
    story = Story(compiled(rest=timer(until="data.at"))).start(at="2026-05-01T10:00:00+02:00")

    assert story.of("timer_started")[0].payload["due_at"] == "2026-05-01T10:00:00+02:00"


def test_a_timer_that_is_not_running_cannot_fire() -> None:
    story = Story(compiled(ask=approval(**ASK, due="1d"), rest=timer("1h"))).start()
    key = story.key("ask")
    story.decide("ask", "approved")

    with pytest.raises(TransitionNotAllowed):
        story.send(c.FireTimer(key=key, timer="due", due_at=NOW))


def test_a_failing_step_is_tried_again_after_the_delay_of_its_policy() -> None:
    story = Story(compiled(one=machine(work))).start()
    job = story.jobs.pop()
    story.send(c.StartStep(key=job.key, attempt=1))

    story.send(c.FailStep(key=job.key, attempt=1, error="no", error_type="OSError", retry_in=timedelta(seconds=30)))
    assert story.of("step_retrying")[0].payload["resume_at"] == (NOW + timedelta(seconds=30)).isoformat()
    story.fire("one", "retry")

    assert story.jobs[0].attempt == 2
    assert story.run().snapshot.status == "completed"


def test_a_step_that_failed_for_good_is_an_incident_that_can_be_skipped() -> None:
    story = Story(compiled(one=machine(work), done=end("done"))).start()
    story.send(c.FailStep(key=story.key("one"), attempt=1, error="no", error_type="OSError"))
    assert story.of("incident_raised")[0].payload["kind"] == "step_failed"

    story.send(c.SkipStep(key=story.key("one"), reason="by hand", output=3))

    assert story.snapshot.outcome == "done"
    assert story.snapshot.steps["one"] == {"outcome": "skipped", "output": 3}


def test_a_failure_goes_its_own_way_where_one_is_drawn() -> None:
    one, done, broken = machine(work), end("done"), end("broken")
    story = Story(compiled(one=one, done=done, broken=broken, flow=[one >> done, one.on_failure >> broken])).start()

    story.send(c.FailStep(key=story.key("one"), attempt=1, error="no", error_type="OSError"))

    assert story.snapshot.outcome == "broken"
    assert not story.of("incident_raised")


def test_a_lost_worker_is_replaced_and_after_too_many_becomes_an_incident() -> None:
    story = Story(compiled(one=machine(work))).start()
    for attempt in (1, 2):
        story.send(c.StartStep(key="one#1", attempt=attempt))
        story.send(c.InterruptStep(key="one#1", attempt=attempt, worker="w", give_up=attempt == 2))

    assert [event.payload["interruptions"] for event in story.of("workflow_interrupted")] == [1, 2]
    assert story.of("incident_raised")[0].payload["kind"] == "worker_lost"


def test_a_paused_instance_takes_up_nothing_new_until_it_is_resumed() -> None:
    story = Story(compiled(one=machine(work), two=machine(work), ask=approval(**ASK))).start()
    story.send(c.StartStep(key="one#1", attempt=1))
    story.send(c.Pause(by=ANN))

    story.send(c.CompleteStep(key="one#1", attempt=1))
    assert (story.snapshot.status, story.snapshot.tokens["two#1"].status) == ("paused", "pending")
    with pytest.raises(TransitionNotAllowed):
        story.send(c.Pause(by=ANN))
    story.jobs.clear()
    story.send(c.Resume(by=ANN))

    assert [job.key for job in story.jobs] == ["two#1"]


def test_decisions_wait_while_the_instance_is_paused() -> None:
    story = Story(compiled(ask=approval(**ASK))).start().send(c.Pause(by=ANN))

    with pytest.raises(TransitionNotAllowed):
        story.decide("ask", "approved")


def test_canceling_closes_everything_that_is_open() -> None:
    both, a, b, meet = fork(), approval(**ASK, due="1d"), timer("1h"), join()
    story = Story(compiled(both=both, a=a, b=b, meet=meet, flow=[both >> [a, b] >> meet])).start()

    story.send(c.Cancel(by=BEN, reason="not needed"))

    assert (story.snapshot.status, story.snapshot.tokens) == ("canceled", {})
    assert story.names.count("timer_canceled") == 2
    assert story.names[-1] == "workflow_canceled"
    assert story.events[-1].by == BEN


@pytest.mark.parametrize("verb", [c.Cancel, c.Pause, c.Resume, c.FailInstance, c.Start], ids=lambda verb: verb.__name__)
def test_an_instance_that_has_ended_takes_no_command(verb: type[c.Command]) -> None:
    story = Story(compiled(one=machine(work, mode="inline"))).start()

    with pytest.raises(TransitionNotAllowed):
        story.send(verb())


def test_a_closed_task_takes_no_decision() -> None:
    story = Story(compiled(ask=approval(**ASK))).start()
    key = story.key("ask")
    story.decide("ask", "approved")

    with pytest.raises(TransitionNotAllowed):
        story.send(c.Decide(key=key, outcome="approved", by=BEN))
    assert AlreadyDecided.code == "already_decided"


def test_outputs_are_computed_at_the_end_with_their_types() -> None:
    outputs = {"total": "data.amount * 2.0", "who": "steps.ask.by", "flag": "data.amount > 1.0"}
    story = Story(compiled(ask=approval(**ASK), outputs=outputs)).start(amount=4.5)

    story.decide("ask", "approved")

    assert story.snapshot.output == {"total": 9.0, "who": "ann", "flag": True}


def test_a_terminating_end_ends_the_other_branches_too() -> None:
    split, a, stop, b, meet = fork(), approval(**ASK), end("stopped", terminate=True), approval(**ASK), join()
    flow = [split >> a, a.on("rejected") >> stop, a >> meet, split >> b >> meet]
    story = Story(compiled(split=split, a=a, stop=stop, b=b, meet=meet, flow=flow)).start()

    story.decide("a", "rejected")

    assert (story.snapshot.status, story.snapshot.outcome) == ("completed", "stopped")


def test_nothing_is_decided_by_looking() -> None:
    definition, snapshot = compiled(one=machine(work)), Snapshot()

    decide(definition, snapshot, c.Start(), now=NOW)

    assert snapshot == Snapshot()
