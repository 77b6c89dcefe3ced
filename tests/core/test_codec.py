from __future__ import annotations

import json
from typing import Any

import pytest

from django_workflows import (
    Quorum,
    Retry,
    approval,
    decision,
    end,
    fork,
    function,
    group,
    human,
    join,
    machine,
    timer,
    user,
)
from django_workflows.core.codec import FORMAT, content_hash, differences, dumps, from_json, loads, to_json
from django_workflows.exceptions import InvalidDefinition, InvalidInput
from tests.core.stories import compiled


def work(ctx: Any) -> None: ...


def everything() -> Any:
    split, a, b, meet = (
        fork(),
        machine(work, mode="inline", arguments={"x": "data.x"}),
        timer("3d", title="Rest"),
        join(1),
    )
    ask = approval(
        assign=group("board", membership="snapshot") | user("ann"),
        quorum="60%",
        outcomes=("approved", "rejected", "returned"),
        labels={"returned": "Send back"},
        form={"type": "object", "properties": {"note": {"type": "string"}}},
        merge=["note"],
        due="3d",
        remind=["1d"],
        exclude=["initiator"],
    )
    route, done = decision(), end("done")
    pay = machine(work, retry=Retry(attempts=3, jitter=0.5, retry_on=("OSError",)), guard=work)
    who = human(assign=function(work, level=2))
    return compiled(
        name="everything",
        version="2.1",
        title="Everything",
        description="All of it.",
        tags=("a", "b"),
        author="ann",
        data_schema={"type": "object"},
        outputs={"n": "data.n"},
        sensitive=("iban",),
        split=split,
        a=a,
        b=b,
        meet=meet,
        ask=ask,
        route=route,
        pay=pay,
        who=who,
        done=done,
        flow=[
            split >> [a, b] >> meet >> ask >> route,
            ask.on("returned", label="back") >> split,
            route.when("data.n > 1", label="many") >> pay >> done,
            route.otherwise >> who >> done,
        ],
    )


def test_a_definition_survives_json() -> None:
    definition = everything()

    assert loads(dumps(definition)) == definition
    assert from_json(json.loads(json.dumps(to_json(definition)))) == definition
    assert to_json(definition)["format"] == FORMAT


def test_the_hash_is_equal_exactly_where_the_content_is() -> None:
    assert content_hash(everything()) == content_hash(from_json(to_json(everything())))
    assert content_hash(everything()) != content_hash(compiled(a=machine(work)))


def test_yaml_and_a_plain_list_of_steps_are_read() -> None:
    definition = loads(
        """
        name: leave
        steps:
          - {name: ask, type: approval, assign: {groups: [leads]}, quorum: {kind: count, value: 2}}
          - {name: book, type: machine, function: work}
        """
    )

    assert [(edge.source, edge.target) for edge in definition.edges] == [("ask", "book")]
    assert definition.initial == "ask"
    assert definition.step("ask").quorum == Quorum(kind="count", value=2)  # type: ignore[attr-defined]


def test_every_problem_of_a_text_is_named_with_its_line() -> None:
    text = """name: leave
colour: red
steps:
  - name: ask
    type: aproval
  - name: book
    type: machine
    function: 5
    moed: inline
  - 7
edges: {}
"""
    with pytest.raises(InvalidDefinition) as refusal:
        loads(text)

    found = {(problem.line, problem.code) for problem in refusal.value.problems}
    assert found >= {
        (2, "unknown_key"),
        (5, "unknown_type"),
        (9, "unknown_key"),
        (8, "invalid_document"),
        (10, "invalid_document"),
    }
    assert "did you mean 'mode'?" in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="broken-json"),
        pytest.param("a: [", id="broken-yaml"),
        pytest.param('{"name": NaN}', id="nan"),
        pytest.param('{"name": "a", "name": "b"}', id="double-key-json"),
        pytest.param("name: a\nname: b", id="double-key-yaml"),
        pytest.param("a: &x [1]\nb: *x", id="alias"),
        pytest.param("a: !!python/object:os.system {}", id="python-tag"),
        pytest.param("[" * 5000, id="deep"),
        pytest.param("x" * 3_000_000, id="long"),
        pytest.param("a: \x00", id="nul"),
    ],
)
def test_what_is_no_definition_at_all_is_a_typed_error(text: str) -> None:
    with pytest.raises((InvalidInput, InvalidDefinition)):
        loads(text)


@pytest.mark.parametrize("document", [None, [], 5, "x", {"format": 99}, {"format": "1"}, {"name": "x", "steps": {}}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(InvalidDefinition):
        from_json(document)


def test_differences_are_named() -> None:
    old, new = everything(), from_json({**to_json(everything()), "title": "Other", "tags": ["a"]})

    assert differences(old, new) == ['title: "Everything" became "Other"', 'tags: ["a", "b"] became ["a"]']
    assert differences(old, old) == []
