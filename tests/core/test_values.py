from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_workflows.core.values import decode, encode, parse_json, plain, register_type
from django_workflows.exceptions import InvalidInput, InvalidValue, PayloadTooLarge, WorkflowError


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Place:
    name: str
    at: datetime


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(min_value=timedelta(days=-9999), max_value=timedelta(days=9999)),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.binary(max_size=20),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(texts | st.just("$type"), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_stored_comes_back_as_it_was(value: Any) -> None:
    assert decode(encode(value)) == value


def test_plain_json_is_stored_as_it_stands() -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": {}}}

    assert encode(value) == value
    assert plain(value) == value


def test_sets_enums_and_dataclasses_are_kept_and_classes_come_back_only_if_registered() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)

    assert decode(encode({1, 2})) == {1, 2}
    assert decode(encode([Colour.RED, Level.LOW])) == ["red", 1]
    assert decode(encode(Place("x", at))) == {"name": "x", "at": at}
    register_type(Place)
    register_type(Colour, "colour")
    assert decode(encode([Place("x", at), Colour.RED])) == [Place("x", at), Colour.RED]


def test_expressions_see_times_as_text_and_decimals_as_numbers() -> None:
    value = encode({"a": Decimal("1.50"), "b": datetime(2026, 1, 2, tzinfo=UTC), "c": timedelta(hours=1), "d": (1, 2)})

    assert plain(value) == {"a": 1.5, "b": "2026-01-02T00:00:00+00:00", "c": 3600.0, "d": [1, 2]}


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "path"),
    [
        pytest.param({"a": [1, {"b": object()}]}, "$.a[1].b", id="object"),
        pytest.param({"a": float("nan")}, "$.a", id="nan"),
        pytest.param([float("-inf")], "$[0]", id="infinity"),
        pytest.param({"a": "x\x00"}, "$.a", id="nul"),
        pytest.param({"a": "\ud800"}, "$.a", id="surrogate"),
        pytest.param({1: 2}, "$", id="key"),
        pytest.param(2**63, "$", id="huge"),
        pytest.param(lambda: None, "$", id="function"),
        pytest.param({"a": 1j}, "$.a", id="complex"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        encode(value)

    assert refusal.value.path == path


def test_what_is_too_deep_or_too_large_is_refused() -> None:
    too_deep: list[Any] = [cycle(), [[[[[]]]]]]
    for value in too_deep:
        with pytest.raises(PayloadTooLarge):
            encode(value, max_depth=4)
    with pytest.raises(PayloadTooLarge):
        encode("x" * 101, max_bytes=102)
    assert encode("x" * 100, max_bytes=102)


@pytest.mark.parametrize(
    "stored",
    [{"$type": "os.system", "value": "x"}, {"$type": "datetime", "value": 5}, {"$type": "registered", "value": 1}],
)
def test_a_stored_form_that_is_unknown_or_broken_is_refused(stored: Any) -> None:
    with pytest.raises(InvalidValue):
        decode(stored)


@pytest.mark.parametrize("text", ["{", "NaN", '{"a": 1, "a": 2}', '"\\u0000"', "1e999", "9" * 30, b"\xff", "[1,]"])
def test_strict_json_refuses_with_a_typed_error(text: Any) -> None:
    with pytest.raises(WorkflowError):
        parse_json(text, max_bytes=1000)


def test_strict_json_names_line_and_column() -> None:
    with pytest.raises(InvalidInput, match="Line 2, column 3"):
        parse_json("{\n  bad}", max_bytes=100)
    with pytest.raises(PayloadTooLarge):
        parse_json("[" * 5000 + "]" * 5000, max_bytes=100_000)
    assert parse_json(' {"a": [1]} ', max_bytes=100) == {"a": [1]}


def test_every_leaf_type_is_told_apart() -> None:
    found = [date(2026, 1, 1), time(1, 2), UUID(int=1), b"x", Decimal("1.10"), timedelta(seconds=1.5)]

    assert [type(value) for value in decode(encode(found))] == [type(value) for value in found]


def test_a_double_key_among_very_many_is_found_at_once() -> None:
    many = ", ".join(f'"k{number}": 0' for number in range(60_000))

    with pytest.raises(InvalidInput, match="'k59999' stands twice"):
        parse_json(f'{{{many}, "k59999": 1}}', max_bytes=10_000_000)
