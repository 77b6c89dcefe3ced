from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_workflows import approval, decision, end, fork, group, join, timer
from django_workflows.core.drawing import MARKS, dot, graph, mermaid, states_of, svg
from django_workflows.core.layout import lay_out
from tests.core.stories import compiled
from tests.core.test_properties import drawing

NASTY = '<script>alert("x")</script> & "quotes" [a]|{b}\n#end'


def sample():  # type: ignore[no-untyped-def]
    split, a, b, meet, route, done = (
        fork(),
        approval(assign=group("x"), title=NASTY),
        timer("1h"),
        join(),
        decision(),
        end("ok"),
    )
    flow = [split >> [a, b] >> meet >> route, route.when('data.a == "<b>"') >> split, route.otherwise >> done]
    return compiled(split=split, a=a, b=b, meet=meet, route=route, done=done, flow=flow)


def test_an_svg_is_well_formed_and_every_text_is_escaped() -> None:
    picture = svg(sample(), {"a": "current", "split": "done"}, title=NASTY)

    root = ET.fromstring(picture)
    assert "<script" not in picture
    assert "style=" not in picture
    assert {node.get("data-step") for node in root.iter() if node.get("data-step")} == {
        "split", "a", "b", "meet", "route", "done",
    }  # fmt: skip
    assert MARKS["current"] in picture
    assert MARKS["done"] in picture


def test_the_same_drawing_gives_the_same_picture() -> None:
    assert svg(sample()) == svg(sample())


def test_mermaid_ids_are_safe_and_labels_are_escaped() -> None:
    text = mermaid(sample(), {"a": "failed"})

    assert text.startswith("flowchart LR")
    assert "<script" not in text
    for line in text.splitlines()[1:]:
        assert re.match(r"  (s\d+|start|classDef|class)\b", line), line
    assert "class s1 failed" in text


def test_dot_quotes_what_must_be_quoted() -> None:
    text = dot(sample())

    assert '\\"quotes\\"' in text
    assert text.count("{") - text.count("{b}") == text.count("}") - text.count("{b}")


def test_the_graph_tells_nodes_edges_and_state() -> None:
    found = graph(sample(), {"a": "done"})

    assert found["initial"] == "split"
    assert [node["state"] for node in found["nodes"] if node["id"] == "a"] == ["done"]
    assert [edge["condition"] for edge in found["edges"] if edge["condition"]] == ['data.a == "<b>"']


def test_states_come_from_what_is_open_and_what_has_been() -> None:
    states = states_of(
        {"b": "waiting", "c": "failed"}, {"a": {"outcome": "approved"}, "b": {}, "d": {"outcome": "skipped"}}
    )

    assert states == {"a": "done", "b": "current", "c": "failed", "d": "skipped"}


@given(st.integers(min_value=0, max_value=10**9).map(drawing))
def test_boxes_never_overlap_and_arrows_end_at_their_boxes(definition) -> None:  # type: ignore[no-untyped-def]
    found = graph(definition)

    ET.fromstring(svg(definition))
    for one, other in combinations(found["nodes"], 2):
        apart = (
            one["x"] + one["width"] <= other["x"]
            or other["x"] + other["width"] <= one["x"]
            or one["y"] + one["height"] <= other["y"] + 0.01
            or other["y"] + other["height"] <= one["y"] + 0.01
        )
        assert apart, (one, other)
    boxes = {node["id"]: node for node in found["nodes"]}
    for edge in found["edges"]:
        for end_, (x, y) in ((edge["source"], edge["points"][0]), (edge["target"], edge["points"][-1])):
            box = boxes[end_]
            assert box["x"] - 1 <= x <= box["x"] + box["width"] + 1
            assert 0 <= y <= found["height"]


@pytest.mark.parametrize(
    "edges",
    [
        pytest.param([], id="no-edge"),
        pytest.param([("a", "a")], id="self-loop"),
        pytest.param([("a", "b"), ("a", "b"), ("b", "a")], id="parallel"),
        pytest.param([("b", "c"), ("c", "b")], id="island"),
    ],
)
def test_odd_graphs_are_laid_out(edges: list[tuple[str, str]]) -> None:
    layout = lay_out(["a", "b", "c"], edges, dict.fromkeys("abc", (100.0, 40.0)))

    assert len({route.points for route in layout.routes}) == len(edges)
    assert all(x >= 0 and y >= 0 for route in layout.routes for x, y in route.points)
