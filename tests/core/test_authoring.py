from __future__ import annotations

from typing import Any

import pytest

from django_workflows import (
    Quorum,
    Workflow,
    approval,
    decision,
    end,
    expression,
    fork,
    group,
    human,
    join,
    machine,
    step,
    user,
)
from django_workflows.core.definition import Definition, Step
from django_workflows.core.steps import STEP_TYPES, step_type
from tests.core.stories import Story, compiled


def work(ctx: Any) -> None: ...


def edges(definition: Definition) -> list[tuple[str, str, str]]:
    return [(edge.source, edge.target, edge.text) for edge in definition.edges]


def test_steps_without_a_flow_form_a_chain() -> None:
    assert edges(compiled(a=machine(work), b=machine(work), c=end())) == [("a", "b", ""), ("b", "c", "")]


def test_lists_on_either_side_mean_each_of_them() -> None:
    a, b, c, d = fork(), machine(work), machine(work), join()

    assert set(edges(compiled(a=a, b=b, c=c, d=d, flow=[a >> [b, c] >> d]))) == {
        ("a", "b", ""), ("b", "d", ""), ("a", "c", ""), ("c", "d", ""),
    }  # fmt: skip
    assert set(edges(compiled(a=a, b=b, c=c, d=d, flow=[a >> b, a >> c, [b, c] >> d]))) == {
        ("a", "b", ""), ("a", "c", ""), ("b", "d", ""), ("c", "d", ""),
    }  # fmt: skip


def test_ways_out_have_outcomes_conditions_and_an_otherwise() -> None:
    ask, route, x, y = approval(assign=group("g")), decision(), end(), end()
    flow = [ask.on("rejected", label="no") >> x, ask >> route, route.when("data.a > 1") >> x, route.otherwise >> y]

    assert edges(compiled(ask=ask, route=route, x=x, y=y, flow=flow)) == [
        ("ask", "x", "no"), ("ask", "route", ""), ("route", "x", "data.a > 1"), ("route", "y", "otherwise"),
    ]  # fmt: skip


def test_a_class_says_what_the_workflow_is() -> None:
    class OrderBooks(Workflow):
        """Books for the library."""

        abstract = True
        tags = ["a"]
        only = end("ok")

    from django_workflows.core.authoring import compile_workflow

    definition = compile_workflow(OrderBooks, str)

    assert (definition.name, definition.version, definition.description) == (
        "order-books",
        "1",
        "Books for the library.",
    )
    assert (definition.tags, definition.initial, definition.label) == (("a",), "only", "Order books")


def test_a_subclass_takes_over_the_steps_of_its_base() -> None:
    from django_workflows.core.authoring import compile_workflow

    class Base(Workflow):
        abstract = True
        first = machine(work)

    class Longer(Base):
        abstract = True
        second = machine(work)

    assert [s.name for s in compile_workflow(Longer, lambda f: f.__name__).steps] == ["first", "second"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: machine(work, colour=1), id="unknown-option"),
        pytest.param(lambda: step("nothing"), id="unknown-type"),
        pytest.param(lambda: approval(assign="ann"), id="assign-text"),
        pytest.param(lambda: approval(assign=user("a"), quorum="most"), id="quorum"),
        pytest.param(lambda: expression("a") | expression("b"), id="two-expressions"),
        pytest.param(lambda: machine(work) >> "b", id="to-text"),
        pytest.param(lambda: compiled(a=machine(work), flow=[machine(work) >> end()]), id="step-of-elsewhere"),
        pytest.param(lambda: compiled(title=end()), id="taken-name"),
    ],
)
def test_what_cannot_be_read_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong()


@pytest.mark.parametrize(
    ("written", "quorum"),
    [(2, Quorum(kind="count", value=2)), ("all", Quorum(kind="all")), ("any", Quorum()), ("60%", Quorum(kind="percentage", value=60))],
)  # fmt: skip
def test_a_quorum_is_written_briefly(written: Any, quorum: Quorum) -> None:
    assert compiled(a=approval(assign=user("x"), quorum=written)).step("a").quorum == quorum  # type: ignore[attr-defined]


def test_a_project_registers_its_own_step_type() -> None:
    from dataclasses import dataclass

    @step_type("beep")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Beep(Step):
        times: int = 1

        def enter(self, run: Any, token: Any) -> None:
            run.emit_started(token)
            run.complete(token, outcome="beeped", result={"outcome": "beeped", "output": "beep" * self.times})

    try:
        story = Story(compiled(noise=step("beep", times=2), done=end("ok"))).start()
        assert (story.snapshot.outcome, story.snapshot.steps["noise"]["output"]) == ("ok", "beepbeep")
        with pytest.raises(TypeError, match="already registered"):
            step_type("beep")(Step)
    finally:
        del STEP_TYPES["beep"]


def test_the_graph_answers_questions() -> None:
    ask, route, x, y = human(assign=user("u")), decision(), end(), end()
    definition = compiled(
        ask=ask, route=route, x=x, y=y, flow=[ask >> route, route.when("true") >> x, route.otherwise >> y]
    )

    assert definition.next_steps("route") == ("x", "y")
    assert definition.previous_steps("x") == ("route",)
    assert definition.is_terminal("x")
    assert definition.terminals == ("x", "y")
    assert definition.paths() == [("ask", "route", "x"), ("ask", "route", "y")]
    assert definition.paths(limit=1) == [("ask", "route", "x")]
    assert definition.depth == 3
    assert definition.reachable("route") == {"route", "x", "y"}
