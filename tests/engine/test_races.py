from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections

from django_workflows import approval, group, services
from django_workflows.exceptions import AlreadyDecided, TransitionNotAllowed, WorkflowError
from django_workflows.models import Decision, HumanTask, WorkflowEvent, WorkflowInstance
from django_workflows.testing import assert_log_gives_state

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returned or raised, all let go at the same instant in threads of their own."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number: int) -> None:
        try:
            connection.ensure_connection()
            gate.wait()
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_r9_two_users_decide_one_task_at_once_and_exactly_one_wins(make_user: Any, make_instance: Any) -> None:
    ann, ben = make_user("ann", "managers"), make_user("ben", "managers")
    body = {"ask": approval(assign=group("managers")), "then": approval(assign=group("managers"))}
    first = make_instance(**body)
    for _ in range(200):
        instance = services.start(first.workflow, by=services.SYSTEM)
        task = HumanTask.objects.get(instance=instance)

        results = at_once(
            lambda task=task: services.decide(task, "approved", by=ann),
            lambda task=task: services.decide(task, "rejected", by=ben),
        )

        won = [result for result in results if isinstance(result, WorkflowInstance)]
        lost = [result for result in results if isinstance(result, AlreadyDecided)]
        assert (len(won), len(lost)) == (1, 1), results
        assert Decision.objects.filter(task=task).count() == 1
        successors = HumanTask.objects.filter(instance=instance, step="then").count()
        assert successors == (Decision.objects.get(task=task).outcome == "approved")
    assert_log_gives_state(instance)


def test_r10_a_double_click_decides_once(make_user: Any, make_instance: Any) -> None:
    ann = make_user("ann", "managers")
    first = make_instance(ask=approval(assign=group("managers")))
    for _ in range(50):
        instance = services.start(first.workflow, by=services.SYSTEM)
        task = HumanTask.objects.get(instance=instance)

        results = at_once(*[lambda task=task: services.decide(task, "approved", by=ann)] * 2)

        assert sorted(isinstance(result, WorkflowError) for result in results) == [False, True]


def test_r11_five_votes_at_once_close_a_quorum_of_three_once(make_user: Any, make_instance: Any) -> None:
    people = [make_user(f"user{number}", "board") for number in range(5)]
    first = make_instance(ask=approval(assign=group("board"), quorum=3))
    for _ in range(30):
        instance = services.start(first.workflow, by=services.SYSTEM)
        task = HumanTask.objects.get(instance=instance)

        results = at_once(*[lambda user=user, task=task: services.decide(task, "approved", by=user) for user in people])

        assert sum(isinstance(result, WorkflowInstance) for result in results) == 3, results
        assert sum(isinstance(result, AlreadyDecided) for result in results) == 2, results
        assert WorkflowEvent.objects.filter(instance=instance, name="human_task_completed").count() == 1
        assert_log_gives_state(instance)


def test_r14_a_claim_storm_leaves_each_task_one_holder(make_user: Any, make_instance: Any) -> None:
    people = [make_user(f"user{number}", "board") for number in range(8)]
    first = make_instance(ask=approval(assign=group("board")))
    for _ in range(20):
        instance = services.start(first.workflow, by=services.SYSTEM)
        task = HumanTask.objects.get(instance=instance)

        results = at_once(*[lambda user=user, task=task: services.claim(task, by=user) for user in people])

        assert sum(isinstance(result, WorkflowInstance) for result in results) == 1, results
        assert sum(isinstance(result, TransitionNotAllowed) for result in results) == 7


def test_a_candidate_who_waited_for_the_lock_is_judged_by_what_holds_now(make_user: Any, make_instance: Any) -> None:
    ann, ben, cid = make_user("ann", "managers"), make_user("ben", "managers"), make_user("cid")
    first = make_instance(ask=approval(assign=group("managers")))
    for _ in range(50):
        instance = services.start(first.workflow, by=services.SYSTEM)
        task = HumanTask.objects.get(instance=instance)

        handed_on, decided = at_once(
            lambda task=task: services.reassign(task, by=ann, to=cid, reason="his field"),
            lambda task=task: services.decide(task, "approved", by=ben),
        )

        names = list(WorkflowEvent.objects.of(instance).values_list("name", flat=True))
        if isinstance(handed_on, WorkflowInstance):
            assert "human_task_decided" not in names, (decided, names)
        else:
            assert isinstance(decided, WorkflowInstance)


def test_r22_the_same_idempotency_key_at_once_gives_one_instance(make_user: Any, make_instance: Any) -> None:
    first = make_instance(ask=approval(assign=group("managers")))
    for number in range(30):
        key = f"key {number}"

        results = at_once(
            *[lambda key=key: services.start(first.workflow, by=services.SYSTEM, idempotency_key=key)] * 4
        )

        assert len({result.pk for result in results}) == 1, results
        assert WorkflowInstance.objects.filter(idempotency_key=key).count() == 1
