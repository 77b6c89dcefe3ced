from __future__ import annotations

from typing import Any

import pytest

from django_workflows import Retry, approval, decision, end, fork, group, human, join, machine, timer, user
from django_workflows.core.definition import Definition
from django_workflows.core.validation import Problem, ensure_valid, validate
from django_workflows.exceptions import InvalidDefinition
from tests.core.stories import compiled


def work(ctx: Any) -> None: ...


def codes(definition: Definition) -> set[str]:
    return {problem.code for problem in validate(definition)}


def test_a_sound_definition_has_no_problem() -> None:
    assert validate(compiled(ask=approval(assign=group("a")), pay=machine(work))) == ()


def test_every_problem_is_reported_at_once() -> None:
    lost, first, route = machine(work, mode="sometimes"), approval(assign=user(), due="soon"), decision()
    definition = compiled(
        name="9 lives", first=first, route=route, lost=lost, flow=[first >> route, route.when("data.") >> first]
    )

    assert codes(definition) >= {
        "invalid_name",
        "unknown_mode",
        "no_assignment",
        "invalid_duration",
        "invalid_expression",
        "unreachable_step",
    }
    with pytest.raises(InvalidDefinition) as refusal:
        ensure_valid(definition)
    assert len(refusal.value.problems) >= 6


def case(code: str, definition: Definition) -> Any:
    return pytest.param(definition, code, id=code)


def _cases() -> list[Any]:
    return [
        case("no_steps", compiled()),
        case("ambiguous_exit", _ambiguous()),
        case("invalid_version", compiled(version="one", a=machine(work))),
        case("unknown_start", compiled(start="nobody", a=machine(work))),
        case("invalid_bound", compiled(max_visits=0, a=machine(work))),
        case("join_without_fork", compiled(a=machine(work), j=join())),
        case("fork_without_branches", _lone_fork()),
        case("two_joins", _two_joins()),
        case("unbalanced_fork", _jump_out()),
        case("endless_loop", _endless()),
        case("condition_on_step", _conditional()),
        case("unknown_outcome", _wrong_outcome()),
        case("two_otherwise", _two_otherwise()),
        case("no_otherwise", _no_otherwise()),
        case("no_exit", compiled(route=decision())),
        case("end_with_exit", _end_goes_on()),
        case("invalid_timer", compiled(t=timer())),
        case("invalid_duration", compiled(t=timer("later"))),
        case("invalid_retry", _retry()),
        case("retry_inline", _retry_inline()),
        case("skipped_gateway", _skipped_fork()),
        case("quorum_out_of_reach", compiled(a=approval(assign=user("x", "y"), quorum=3))),
        case("invalid_quorum", compiled(a=approval(assign=user("x"), quorum=0))),
        case("invalid_outcomes", compiled(a=human(assign=user("x"), outcomes=("yes", "yes")))),
        case("unknown_field", compiled(a=human(assign=user("x"), merge="amount"))),
        case("invalid_schema", compiled(a=human(assign=user("x"), form={"type": "objekt"}))),
        case("remind_without_due", compiled(a=human(assign=user("x"), remind="1d"))),
        case("unknown_step", compiled(a=human(assign=user("x"), exclude="nobody"))),
        case("invalid_template", compiled(a=human(assign=user("x"), title="{{ data. }}"))),
        case("unknown_reference", compiled(a=human(assign=user("x"), title="{{ steps.b.outcome }}"))),
        case("invalid_count", _count()),
        case("unknown_membership", compiled(a=human(assign=group("x", membership="eternal")))),
    ]


def _ambiguous() -> Definition:
    a, b, c = machine(work), machine(work), machine(work)
    return compiled(a=a, b=b, c=c, flow=[a >> b, a >> c])


def _lone_fork() -> Definition:
    f, a, j = fork(), machine(work), join()
    return compiled(f=f, a=a, j=j, flow=[f >> a >> j])


def _two_joins() -> Definition:
    f, a, b, j, j2 = fork(), machine(work), machine(work), join(), join()
    return compiled(f=f, a=a, b=b, j=j, j2=j2, flow=[f >> a >> j, f >> b >> j2])


def _jump_out() -> Definition:
    first, f, a, b, j = machine(work), fork(), approval(assign=group("x")), machine(work), join()
    return compiled(
        first=first, f=f, a=a, b=b, j=j, flow=[first >> f, f >> a >> j, f >> b >> j, a.on("rejected") >> first]
    )


def _endless() -> Definition:
    a, b, route, stop, c = machine(work), machine(work), decision(), end(), machine(work)
    flow = [a >> route, route.when("true") >> stop, route.otherwise >> b, b >> c, c >> b]
    return compiled(a=a, b=b, c=c, route=route, stop=stop, flow=flow)


def _conditional() -> Definition:
    a, b = machine(work), machine(work)
    return compiled(a=a, b=b, flow=[a.when("true") >> b])


def _wrong_outcome() -> Definition:
    a, b = approval(assign=group("x")), machine(work)
    return compiled(a=a, b=b, flow=[a.on("aproved") >> b])


def _two_otherwise() -> Definition:
    route, a, b = decision(), machine(work), machine(work)
    return compiled(route=route, a=a, b=b, flow=[route >> a, route.otherwise >> b])


def _no_otherwise() -> Definition:
    route, a = decision(), machine(work)
    return compiled(route=route, a=a, flow=[route.when("true") >> a])


def _end_goes_on() -> Definition:
    stop, a = end(), machine(work)
    return compiled(stop=stop, a=a, flow=[stop >> a])


def _retry() -> Definition:
    return compiled(a=machine(work, retry=Retry(attempts=0)))


def _retry_inline() -> Definition:
    return compiled(a=machine(work, mode="inline", retry=Retry(attempts=2)))


def _skipped_fork() -> Definition:
    f, a, b, j = fork(condition="true"), machine(work), machine(work), join()
    return compiled(f=f, a=a, b=b, j=j, flow=[f >> [a, b] >> j])


def _count() -> Definition:
    f, a, b, j = fork(), machine(work), machine(work), join(5)
    return compiled(f=f, a=a, b=b, j=j, flow=[f >> [a, b] >> j])


@pytest.mark.parametrize(("definition", "code"), _cases())
def test_each_fault_is_named(definition: Definition, code: str) -> None:
    found = [problem for problem in validate(definition) if problem.code == code]

    assert found, validate(definition)
    assert all(problem.message and problem.place is not None for problem in found)


def test_a_near_miss_is_suggested() -> None:
    definition = compiled(approve=human(assign=user("x"), title="{{ steps.aprove.outcome }}"))

    assert "did you mean 'approve'?" in str(validate(definition)[0])


def test_warnings_do_not_refuse() -> None:
    ensure_valid(_no_otherwise())

    assert [problem.severity for problem in validate(_no_otherwise())] == ["warning"]


def test_problems_are_sentences_with_place_and_code() -> None:
    problem = Problem(code="x", message="it is wrong", place="steps.a", line=3, column=4, suggestion="mend it")

    assert str(problem) == "line 3, column 4, steps.a: it is wrong (mend it) [x]"


@pytest.mark.parametrize("properties", [[], [{"a": 1}], "x", 5, None])
def test_a_form_whose_properties_are_no_object_is_a_problem_and_no_crash(properties: Any) -> None:
    form = {"type": "object", "properties": properties}
    definition = compiled(ask=human(assign=user("x"), form=form, merge=("a",)))

    assert "invalid_schema" in {problem.code for problem in validate(definition)}
