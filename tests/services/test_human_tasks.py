from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_workflows import approval, end, group, human, services, user
from django_workflows.exceptions import (
    AlreadyDecided,
    InvalidForm,
    InvalidInput,
    InvalidValue,
    NotAuthorized,
    NotFound,
    PayloadTooLarge,
    TaskClaimed,
    TransitionNotAllowed,
    UnknownOutcome,
)
from django_workflows.models import Decision, HumanTask, Incident, TaskCandidate, Timer, WorkflowEvent
from django_workflows.testing import assert_log_gives_state, decide_as, frozen_clock

pytestmark = pytest.mark.django_db

FORM = {"type": "object", "properties": {"amount": {"type": "number", "minimum": 0}}, "required": ["amount"]}


def rows() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (WorkflowEvent, Decision, HumanTask, TaskCandidate))


def test_a_candidate_approves_and_the_instance_ends(make_user: Any, make_instance: Any) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))

    decided = decide_as(manager, instance, "approved", comment="fine")

    assert (decided.status, decided.outcome) == ("completed", "approved")
    task = HumanTask.objects.get(instance=instance)
    assert (task.status, task.outcome, task.completed_by_name) == ("completed", "approved", "maria")
    assert not TaskCandidate.objects.filter(is_open=True).exists()
    assert_log_gives_state(decided)


def test_a_rejection_without_an_edge_ends_the_instance_as_rejected(make_user: Any, make_instance: Any) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")), then=end("paid"))

    decided = decide_as(manager, instance, "rejected")

    assert (decided.status, decided.outcome) == ("completed", "rejected")


def test_a_stranger_may_not_decide_and_leaves_no_trace(make_user: Any, make_instance: Any) -> None:
    make_user("maria", "managers")
    stranger = make_user("sam")
    instance = make_instance(ask=approval(assign=group("managers")))
    before = rows()

    with pytest.raises(NotAuthorized) as refusal:
        decide_as(stranger, instance, "approved")

    assert refusal.value.code == "not_authorized"
    assert rows() == before


def test_who_joins_the_group_later_may_decide_and_who_leaves_may_not(make_user: Any, make_instance: Any) -> None:
    maria, joiner = make_user("maria", "managers"), make_user("joe")
    instance = make_instance(ask=approval(assign=group("managers"), quorum="all"))
    task = HumanTask.objects.get(instance=instance)
    joiner.groups.set(maria.groups.all())
    maria.groups.clear()

    with pytest.raises(NotAuthorized):
        services.decide(task, "approved", by=maria)
    decided = services.decide(task, "approved", by=joiner)

    assert decided.outcome == "approved"


def test_a_snapshot_of_the_group_stays_as_it_was(make_user: Any, make_instance: Any) -> None:
    maria, joiner = make_user("maria", "managers"), make_user("joe")
    instance = make_instance(ask=approval(assign=group("managers", membership="snapshot")))
    joiner.groups.set(maria.groups.all())
    maria.groups.clear()

    with pytest.raises(NotAuthorized):
        decide_as(joiner, instance, "approved")
    decided = decide_as(maria, instance, "approved")

    assert decided.outcome == "approved"


def test_a_group_without_active_members_raises_an_incident_and_uses_the_fallback(
    make_user: Any, make_instance: Any, settings: Any
) -> None:
    settings.WORKFLOWS_FALLBACK_GROUP = "helpdesk"
    make_user("gone", "managers", is_active=False)
    helper = make_user("helen", "helpdesk")

    instance = make_instance(ask=approval(assign=group("managers")))

    assert Incident.objects.get(instance=instance).kind == "nobody_to_assign"
    assert list(HumanTask.objects.inbox(helper)) == [HumanTask.objects.get(instance=instance)]
    decided = decide_as(helper, instance, "approved")
    assert decided.status == "completed"
    assert Incident.objects.get(instance=instance).status == "resolved"


def test_an_unknown_outcome_is_refused_and_the_allowed_ones_are_named(make_user: Any, make_instance: Any) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))
    before = rows()

    with pytest.raises(UnknownOutcome) as refusal:
        decide_as(manager, instance, "Approved")

    assert refusal.value.allowed == ("approved", "rejected")
    assert rows() == before


@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({}, InvalidForm, id="missing"),
        pytest.param({"amount": -1}, InvalidForm, id="too-small"),
        pytest.param({"amount": "x"}, InvalidForm, id="wrong-type"),
        pytest.param({"amount": 1, "more": 2}, InvalidForm, id="unknown-field"),
        pytest.param({"amount": float("nan")}, InvalidValue, id="nan"),
        pytest.param({"amount": 1, "x": "y" * 5_000_000}, PayloadTooLarge, id="five-megabytes"),
        pytest.param([1], InvalidInput, id="no-object"),
    ],
)
def test_a_bad_form_is_refused_and_changes_nothing(
    make_user: Any, make_instance: Any, form: Any, error: type[Exception]
) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers"), form=FORM))
    before = rows()

    with pytest.raises(error):
        decide_as(manager, instance, "approved", form=form)

    assert rows() == before
    assert HumanTask.objects.get(instance=instance).status == "open"


def test_form_data_goes_where_the_definition_says(make_user: Any, make_instance: Any) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers"), form=FORM, merge="amount"), data={"amount": 1})

    decided = decide_as(manager, instance, "approved", form={"amount": 7})

    assert decided.data == {"amount": 7}
    assert decided.results["ask"]["form"] == {"amount": 7}
    assert decided.results["ask"]["by"] == "maria"


def test_a_comment_is_required_where_the_definition_says(make_user: Any, make_instance: Any) -> None:
    manager = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers"), comment_required=["rejected"]))

    with pytest.raises(InvalidInput):
        decide_as(manager, instance, "rejected", comment="  ")
    decided = decide_as(manager, instance, "rejected", comment="too dear")

    assert decided.outcome == "rejected"


def test_a_closed_task_cannot_be_decided_again(make_user: Any, make_instance: Any) -> None:
    maria, mona = make_user("maria", "managers"), make_user("mona", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))
    task = HumanTask.objects.get(instance=instance)
    services.decide(task, "approved", by=maria)
    before = rows()

    with pytest.raises(AlreadyDecided) as refusal:
        services.decide(task, "rejected", by=mona)

    assert (refusal.value.outcome, refusal.value.decided_by) == ("approved", "maria")
    assert rows() == before


def test_a_task_that_does_not_exist_is_not_found(make_user: Any) -> None:
    maria = make_user("maria")

    for key in ("nonsense", "0192d5a0-0000-7000-8000-000000000000"):
        with pytest.raises(NotFound):
            services.decide(key, "approved", by=maria)


def test_nobody_and_the_inactive_may_not_act(make_user: Any, make_instance: Any) -> None:
    gone = make_user("gone", "managers", is_active=False)
    make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))

    for nobody in (None, gone):
        with pytest.raises(NotAuthorized):
            decide_as(nobody, instance, "approved")


def test_a_claimed_task_is_decided_by_its_holder_only(make_user: Any, make_instance: Any) -> None:
    maria, mona = make_user("maria", "managers"), make_user("mona", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))
    task = HumanTask.objects.get(instance=instance)

    services.claim(task, by=maria)

    for verb in (lambda: services.claim(task, by=mona), lambda: services.decide(task, "approved", by=mona)):
        with pytest.raises(TaskClaimed) as refusal:
            verb()
        assert refusal.value.holder == "maria"
    assert list(HumanTask.objects.inbox(mona)) == []
    services.release(task, by=maria)
    assert services.decide(task, "approved", by=mona).outcome == "approved"
    assert_log_gives_state(instance)


def test_a_task_that_must_be_claimed_is_not_decided_unclaimed(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers"), claim_required=True))
    task = HumanTask.objects.get(instance=instance)

    with pytest.raises(TransitionNotAllowed):
        services.decide(task, "approved", by=maria)
    services.claim(task, by=maria)

    assert services.decide(task, "approved", by=maria).status == "completed"


def test_releasing_what_nobody_holds_is_refused(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))

    with pytest.raises(TransitionNotAllowed):
        services.release(HumanTask.objects.get(instance=instance), by=maria)


def test_two_of_three_must_approve(make_user: Any, make_instance: Any) -> None:
    people = [make_user(name, "board") for name in ("ann", "ben", "cid")]
    instance = make_instance(ask=approval(assign=group("board"), quorum=2))

    decide_as(people[0], instance, "approved")
    open_task = HumanTask.objects.get(instance=instance)
    assert open_task.status == "open"
    with pytest.raises(AlreadyDecided):
        decide_as(people[0], instance, "approved")
    decided = decide_as(people[1], instance, "approved")

    assert decided.outcome == "approved"
    assert Decision.objects.filter(task=open_task).count() == 2
    assert_log_gives_state(decided)


def test_a_vote_that_cannot_succeed_any_more_fails_at_once(make_user: Any, make_instance: Any) -> None:
    people = [make_user(name, "board") for name in ("ann", "ben", "cid")]
    instance = make_instance(ask=approval(assign=group("board"), quorum=2))

    decide_as(people[0], instance, "rejected")
    decided = decide_as(people[1], instance, "rejected")

    assert decided.outcome == "rejected"


def test_handing_on_a_vote_keeps_the_threshold(make_user: Any, make_instance: Any) -> None:
    people = [make_user(name, "board") for name in ("ann", "ben", "cid")]
    deputy = make_user("dora")
    instance = make_instance(ask=approval(assign=group("board"), quorum=2))
    task = HumanTask.objects.get(instance=instance)

    services.reassign(task, by=people[0], to=deputy, reason="on leave")

    assert services.decide(task, "approved", by=deputy).status == "waiting"
    with pytest.raises(NotAuthorized):
        services.decide(task, "approved", by=people[0])
    assert services.decide(task, "approved", by=people[1]).outcome == "approved"
    assert_log_gives_state(instance)


def test_a_vote_that_has_been_given_cannot_be_handed_on(make_user: Any, make_instance: Any) -> None:
    people = [make_user(name, "board") for name in ("ann", "ben", "cid")]
    instance = make_instance(ask=approval(assign=group("board"), quorum="all"))
    task = HumanTask.objects.get(instance=instance)
    services.decide(task, "approved", by=people[0])
    before = rows()

    with pytest.raises(AlreadyDecided, match="nothing left to hand on"):
        services.reassign(task, by=people[0], to=make_user("dora"), reason="again")
    with pytest.raises(InvalidInput, match="already"):
        services.reassign(task, by=people[1], to=people[0], reason="twice")

    assert rows() == before
    assert_log_gives_state(instance)


def test_a_task_is_handed_on_for_good(make_user: Any, make_instance: Any) -> None:
    maria, mona = make_user("maria", "managers"), make_user("mona")
    instance = make_instance(ask=approval(assign=group("managers")))
    task = HumanTask.objects.get(instance=instance)

    with pytest.raises(InvalidInput):
        services.reassign(task, by=maria, to=mona, reason=" ")
    services.reassign(task, by=maria, to=mona, reason="her field")

    with pytest.raises(NotAuthorized):
        services.decide(task, "approved", by=maria)
    assert list(HumanTask.objects.inbox(mona)) == [task]
    assert services.decide(task, "approved", by=mona).outcome == "approved"
    assert_log_gives_state(instance)


def test_the_initiator_is_excluded_where_the_definition_says(make_user: Any, make_instance: Any) -> None:
    maria, mona = make_user("maria", "managers"), make_user("mona", "managers")
    instance = make_instance(by=maria, ask=approval(assign=group("managers"), exclude="initiator"))
    task = HumanTask.objects.get(instance=instance)

    assert list(HumanTask.objects.inbox(maria)) == []
    for verb in (lambda: services.claim(task, by=maria), lambda: services.decide(task, "approved", by=maria)):
        with pytest.raises(NotAuthorized):
            verb()
    with pytest.raises(NotAuthorized):
        services.reassign(task, by=mona, to=maria, reason="hers")
    assert services.decide(task, "approved", by=mona).outcome == "approved"


def test_who_decided_an_earlier_step_is_excluded_from_a_later_one(make_user: Any, make_instance: Any) -> None:
    maria, mona = make_user("maria", "managers"), make_user("mona", "managers")
    instance = make_instance(
        first=approval(assign=group("managers")), second=approval(assign=group("managers"), exclude="first")
    )
    decide_as(maria, instance, "approved")

    with pytest.raises(NotAuthorized):
        decide_as(maria, instance, "approved")
    assert decide_as(mona, instance, "approved").status == "completed"


def test_a_single_user_is_assigned_the_task(make_user: Any, make_instance: Any) -> None:
    make_user("maria")

    instance = make_instance(ask=human(assign=user("maria")))

    assert HumanTask.objects.get(instance=instance).assignee_name == "maria"
    assert WorkflowEvent.objects.filter(instance=instance, name="human_task_assigned").count() == 1


def test_comments_stand_in_the_history_also_after_the_end(make_user: Any, make_instance: Any) -> None:
    maria, stranger = make_user("maria", "managers"), make_user("sam")
    instance = make_instance(ask=approval(assign=group("managers")))
    task = HumanTask.objects.get(instance=instance)

    services.comment(task, "what is it for?", by=maria)
    services.decide(task, "approved", by=maria)
    services.comment(task, "for the record", by=maria)
    with pytest.raises(NotAuthorized):
        services.comment(task, "me too", by=stranger)

    texts = [line.payload["text"] for line in WorkflowEvent.objects.filter(name="human_task_commented")]
    assert texts == ["what is it for?", "for the record"]
    assert_log_gives_state(instance)


def test_reminders_and_the_due_date_happen_once_and_not_after_closing(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "managers")
    with frozen_clock() as clock:
        instance = make_instance(ask=approval(assign=group("managers"), due="3d", remind=["1d", "2h"]))
        assert clock.move(timedelta(days=2, minutes=1)) == 1
        assert clock.move(timedelta(minutes=1)) == 0
        assert clock.move(timedelta(days=2)) == 2
        names = list(WorkflowEvent.objects.of(instance).values_list("name", flat=True))
        assert names.count("human_task_reminded") == 2
        assert names.count("human_task_overdue") == 1

        other = services.start("sample", by=services.SYSTEM)
        decide_as(maria, other, "approved")
        assert clock.move(timedelta(days=9)) == 0
        assert set(Timer.objects.filter(instance=other).values_list("status", flat=True)) == {"canceled"}


def test_a_deleted_user_leaves_the_name_in_the_history(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")))
    decide_as(maria, instance, "approved")

    maria.delete()

    assert Decision.objects.get().actor_name == "maria"
    assert HumanTask.objects.get().completed_by_name == "maria"
