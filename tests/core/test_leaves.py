"""Durations, expressions, templates, forms, retries, quorum and versions: small rules as tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_workflows.core import expressions, forms, templating
from django_workflows.core.durations import format_duration, parse_duration
from django_workflows.core.human_tasks import Quorum, evaluate
from django_workflows.core.masking import mask
from django_workflows.core.retry import Retry
from django_workflows.core.versions import version_key
from django_workflows.exceptions import ExpressionError, InvalidForm, InvalidValue

SCOPE = {
    "data": {"amount": 12.5, "n": 3, "name": "Ann", "tags": ["a"], "none": None, "at": "2026-01-01T00:00:00Z"},
    "steps": {"ask": {"outcome": "approved"}},
    "instance": {"initiator": "ann"},
    "now": datetime(2026, 6, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("3d", 259_200), ("1w", 604_800), ("PT15M", 900), ("P1DT1H", 90_000), (5, 5), (0.5, 0.5),
     (timedelta(minutes=1), 60), ("1.5h", 5400)],
)  # fmt: skip
def test_lengths_of_time_are_read(text: Any, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "5", "-1s", -1, float("nan"), float("inf"), None, True, "1y", "P", "1e400s", [], "m5"]
)
def test_what_is_no_length_of_time_is_refused(text: Any) -> None:
    with pytest.raises(InvalidValue):
        parse_duration(text)


def test_lengths_of_time_are_written_for_people() -> None:
    assert [format_duration(timedelta(seconds=s)) for s in (0, 59, 3660, 273_600)] == [
        "0 s",
        "59 s",
        "1 h 1 min",
        "3 d 4 h",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.amount > 12.0", True),
        ("data.n > 2 && data.n < 4", True),
        ("data.n == 3 ? 'x' : 'y'", "x"),
        ("'a' in data.tags", True),
        ("has(data.missing)", False),
        ("data.none == null", True),
        ("data.name.startsWith('A') && data.name.matches('^A.+')", True),
        ("steps.ask.outcome", "approved"),
        ("timestamp(data.at) < now", True),
        ("now", "2026-06-01T00:00:00+00:00"),
        ("now - timestamp(data.at)", 13_046_400.0),
        ("{'a': [1, data.n]}", {"a": [1, 3]}),
        ("data.tags.map(t, t + '!')", ["a!"]),
        ("size(data.tags) + 1", 2),
    ],
)
def test_expressions_give_values(text: str, value: Any) -> None:
    assert expressions.check(text, expect="value") == []
    assert expressions.evaluate(text, SCOPE) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [("data.", "Syntax error"), ("nope.x", "undeclared"), ("'a' + 1", "no matching overload"), ("", "empty"),
     ("1 +" * 3000 + "1", "at most"), ("data.a > 1 && &&", "Syntax error")],
)  # fmt: skip
def test_broken_expressions_are_named_with_their_place(text: str, words: str) -> None:
    problems = expressions.check(text, expect="value")

    assert words in problems[0].message
    assert problems[0].line >= 1
    assert problems[0].column >= 1
    with pytest.raises(ExpressionError):
        expressions.evaluate(text, SCOPE)


def test_a_condition_must_be_able_to_be_true_or_false() -> None:
    assert expressions.check("1 + 1", expect="bool")
    assert expressions.check("data.amount", expect="bool") == []
    with pytest.raises(ExpressionError, match="true or false"):
        expressions.is_true("data.amount", SCOPE)


@pytest.mark.parametrize(
    "text",
    ["data.missing > 1", "data.name > 5", "1 / 0", "data.tags[7]", "type(1)",
     "[1,2,3,4,5,6,7,8,9,10].map(a, [1,2,3,4,5,6,7,8,9,10].map(b, [1,2,3,4,5,6,7,8,9,10].map(c,"
     " [1,2,3,4,5,6,7,8,9,10].map(d, [1,2,3,4,5,6,7,8,9,10].map(e, [1,2,3,4,5,6,7,8,9,10].map(f, 1))))))"],
)  # fmt: skip
def test_what_fails_at_run_time_is_an_expression_error(text: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        expressions.evaluate(text, SCOPE)

    assert refusal.value.facts["text"] == text


def test_expressions_serve_several_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: expressions.evaluate("data.n * 2", {**SCOPE, "data": {"n": n}}), range(200)))

    assert found == [n * 2 for n in range(200)]


@pytest.mark.parametrize(
    ("text", "result"),
    [("plain // https://x", "plain // https://x"), ("{{ data.name }}: {{data.amount}}", "Ann: 12.5"), ("{{ 12.0 }}", "12"),
     ("{{ data.none }}", ""), ("{{{{ x }}", "{{ x }}"), ("{{ '{{ data.n }}' }}", "{{ data.n }}"), ("{{ true }}", "true")],
)  # fmt: skip
def test_templates_are_rendered_once(text: str, result: str) -> None:
    assert templating.render(text, SCOPE) == result


def test_the_problems_of_a_template_stand_where_they_are() -> None:
    (problem,) = templating.check("first\n  {{ nope.x }}")

    assert (problem.line, problem.column) == (2, 10)
    assert templating.check("{{ data.x")


SCHEMA = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 1},
        "count": {"type": "integer"},
        "day": {"type": "string", "format": "date"},
        "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "ok": {"type": "boolean"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["x"]}},
    },
    "required": ["amount"],
}


def test_forms_fill_in_defaults_and_keep_what_is_right() -> None:
    assert forms.clean(SCHEMA, {"amount": 2}) == {"amount": 2, "kind": "a"}


def test_every_field_has_its_own_errors() -> None:
    with pytest.raises(InvalidForm) as refusal:
        forms.clean(SCHEMA, {"amount": 0, "count": 1.5, "day": "2026-13-01", "kind": "c", "lines": [{}], "more": 1})

    assert set(refusal.value.errors) == {"amount", "count", "day", "kind", "lines.0.x", "more"}


def test_texts_of_an_html_form_are_read_by_the_types_of_the_schema() -> None:
    sent = {"amount": "5", "count": "3", "day": "", "kind": "b", "ok": "on", "lines": '[{"x": 1}]'}

    assert forms.clean(SCHEMA, sent, coerce=True) == {
        "amount": 5, "count": 3, "kind": "b", "ok": True, "lines": [{"x": 1}],
    }  # fmt: skip
    assert forms.clean(SCHEMA, {"amount": "1.5"}, coerce=True) == {"amount": 1.5, "kind": "a", "ok": False}
    for wrong in ({"amount": "x"}, {"amount": ""}, {"amount": "1", "count": "1.5"}):
        with pytest.raises(InvalidForm):
            forms.clean(SCHEMA, wrong, coerce=True)


@pytest.mark.parametrize(
    "schema",
    [[], {"type": "array"}, {"type": "object", "properties": {"a": {"type": "no"}}},
     {"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}}],
)  # fmt: skip
def test_a_schema_that_is_none_is_named(schema: Any) -> None:
    assert forms.check_schema(schema)
    assert forms.check_schema(SCHEMA) == []


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [("fixed", [10, 10, 10, 10]), ("linear", [10, 20, 30, 40]), ("exponential", [10, 20, 40, 60])],
)
def test_delays_grow_by_the_backoff_up_to_the_cap(backoff: str, delays: list[int]) -> None:
    policy = Retry(attempts=9, backoff=backoff, delay="10s", cap="1m")

    assert [policy.delay_before(n).total_seconds() for n in range(2, 6)] == delays


def test_jitter_spreads_the_delay_around_its_length() -> None:
    policy = Retry(attempts=2, backoff="fixed", delay="100s", jitter=0.5)

    assert [policy.delay_before(2, unit=unit).total_seconds() for unit in (0.0, 0.5, 0.999)] == pytest.approx(
        [75, 100, 124.95]
    )


@pytest.mark.parametrize(
    ("options", "given_", "expected"),
    [
        pytest.param({"attempts": 3}, {"attempt": 2}, True, id="again"),
        pytest.param({"attempts": 3}, {"attempt": 3}, False, id="no-more"),
        pytest.param({"attempts": 3}, {"retryable": False}, False, id="fatal"),
        pytest.param({"attempts": 3, "give_up_on": ("OSError",)}, {}, False, id="give-up-on"),
        pytest.param({"attempts": 3, "give_up_on": ("OSError",)}, {"retryable": True}, True, id="says-itself"),
        pytest.param({"attempts": 3, "retry_on": ("ValueError",)}, {}, False, id="not-retry-on"),
        pytest.param({"attempts": 3, "retry_on": ("OSError",)}, {}, True, id="retry-on"),
    ],
)
def test_when_a_failure_is_tried_again(options: dict[str, Any], given_: dict[str, Any], expected: bool) -> None:
    known = {"attempt": 1, "error_names": ("OSError",), "retryable": None, "retry_after": None, "unit": 0.5, **given_}

    assert (Retry(**options).decide(**known) is not None) is expected


@pytest.mark.parametrize(
    ("quorum", "electorate", "counts", "outcome"),
    [
        (Quorum(), 5, {"no": 1}, "no"),
        (Quorum(kind="all"), 3, {"yes": 2}, ""),
        (Quorum(kind="all"), 3, {"yes": 3}, "yes"),
        (Quorum(kind="all"), 3, {"yes": 1, "no": 1}, "no"),
        (Quorum(kind="count", value=3), 5, {"yes": 2, "no": 2}, ""),
        (Quorum(kind="count", value=3), 5, {"yes": 3, "no": 2}, "yes"),
        (Quorum(kind="count", value=3), 5, {"yes": 1, "no": 3}, "no"),
        (Quorum(kind="percentage", value=50), 5, {"yes": 2}, ""),
        (Quorum(kind="percentage", value=50), 5, {"yes": 3}, "yes"),
        (Quorum(kind="percentage", value=67), 3, {"yes": 2, "no": 1}, "no"),
        (Quorum(kind="count", value=2), 3, {"no": 1, "later": 1}, "no"),
        (Quorum(kind="count", value=2), 1, {"yes": 1}, ""),
    ],
)
def test_votes_are_judged(quorum: Quorum, electorate: int, counts: dict[str, int], outcome: str) -> None:
    verdict = evaluate(quorum, ("yes", "no", "later"), counts, electorate)

    assert verdict.outcome == outcome
    assert verdict.reason


@given(st.integers(1, 30), st.integers(1, 30), st.lists(st.booleans(), max_size=30))
def test_a_vote_closes_exactly_when_it_is_decided(electorate: int, value: int, votes: list[bool]) -> None:
    quorum, votes = Quorum(kind="count", value=value), votes[:electorate]
    counts: dict[str, int] = {}
    for number, vote in enumerate(votes, 1):
        name = "yes" if vote else "no"
        counts[name] = counts.get(name, 0) + 1
        verdict = evaluate(quorum, ("yes", "no"), counts, electorate)
        can_still = counts.get("yes", 0) + electorate - number >= value
        wanted = "yes" if counts.get("yes", 0) >= value else "" if can_still or not counts.get("no") else "no"
        assert verdict.outcome == wanted
        if verdict.outcome:
            break


def test_versions_are_ordered_as_versions() -> None:
    order = [
        "0.9.dev1",
        "0.9a1",
        "0.9a2",
        "0.9b1",
        "0.9rc1",
        "0.9",
        "0.9.post1",
        "1",
        "1.0.1",
        "1.2",
        "1.10",
        "2",
        "10",
        "1!1",
    ]

    keys = [version_key(version) for version in order]

    assert all(one < other for one, other in pairwise(keys))
    assert version_key("1") == version_key("1.0.0")
    for wrong in ("", "x", "1.2.3.4.5.6", "1+local", "999999999"):
        with pytest.raises(InvalidValue):
            version_key(wrong)


def test_sensitive_values_are_hidden_at_any_depth() -> None:
    assert mask({"Token": 1, "a": [{"token": 2, "b": 3}]}, ["token"]) == {
        "Token": "•••",
        "a": [{"token": "•••", "b": 3}],
    }
