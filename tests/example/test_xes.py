from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from example_project.expenses.population import generate, total
from example_project.expenses.xes import LogError, read_log, write_log

EVENT = (
    '<event><string key="concept:name" value="{}"/><date key="time:timestamp" value="{}"/>'
    '<string key="org:role" value="EMPLOYEE"/>{}</event>'
)


def log(*events: str, trace: str = '<string key="concept:name" value="c1"/>', root: str = "log") -> str:
    return f'<?xml version="1.0"?><{root} xmlns="http://www.xes-standard.org"><trace>{trace}{"".join(events)}</trace></{root}>'


def event(name: str = "A", at: str = "2017-01-09T09:49:50.000+01:00", extra: str = "") -> str:
    return EVENT.format(name, at, extra)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(text: str | bytes, name: str = "log.xes") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return make


def test_a_case_with_its_events_amount_and_number(write: Any) -> None:
    extra = '<string key="(case)_Amount" value="26.85"/><string key="(case)_DeclarationNumber" value="d 7"/>'

    (case,) = read_log(write(log(event(extra=extra), event("B", "2017-01-10T00:00:00"))))

    assert (case.id, case.amount, case.number) == ("c1", 26.85, "d 7")
    assert [(e.activity, e.role) for e in case.events] == [("A", "EMPLOYEE"), ("B", "EMPLOYEE")]
    assert case.events[1].at == datetime(2017, 1, 10, tzinfo=UTC)


def test_sister_logs_keep_amount_and_number_at_the_trace(write: Any) -> None:
    trace = (
        '<string key="concept:name" value="r1"/><float key="RequestedAmount" value="12.5"/>'
        '<string key="RfpNumber" value="rfp 9"/>'
    )

    (case,) = read_log(write(log(event(), trace=trace)))

    assert (case.amount, case.number) == (12.5, "rfp 9")


def test_a_compressed_log_is_known_by_its_content(write: Any) -> None:
    assert len(list(read_log(write(gzip.compress(log(event()).encode()), "log.xes")))) == 1


def test_events_are_ordered_by_time_and_ties_as_in_the_file(write: Any) -> None:
    late, early = "2017-01-10T00:00:00Z", "2017-01-09T00:00:00Z"

    (case,) = read_log(write(log(event("B", late), event("C", late), event("A", early))))

    assert [e.activity for e in case.events] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("no xml", "line 1", id="no-xml"),
        pytest.param(log(event())[:-20], "line 1", id="truncated"),
        pytest.param(log(event(), root="html"), "no XES log", id="other-root"),
        pytest.param("<log></log>", "no trace", id="no-trace"),
        pytest.param(log(event(at="yesterday")), "case c1, event 1", id="bad-time"),
        pytest.param(log("<event/>"), "concept:name", id="nameless"),
        pytest.param(log(event(), trace=""), "concept:name", id="nameless-trace"),
        pytest.param(gzip.compress(log(event()).encode())[:40], "broken", id="truncated-gzip"),
        pytest.param(b"\x1f\x8bnonsense", "broken", id="no-gzip"),
        pytest.param('<!DOCTYPE log [<!ENTITY a "aaaa">]><log>&a;</log>', "document type", id="entities"),
    ],
)
def test_a_broken_log_is_named_with_the_place(write: Any, content: Any, words: str) -> None:
    with pytest.raises(LogError, match=words):
        list(read_log(write(content)))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.xes", tmp_path):
        with pytest.raises(LogError, match=str(path)):
            list(read_log(path))


def test_what_came_before_the_break_has_been_read(write: Any) -> None:
    found: list[Any] = []
    text = log(event()).replace("</log>", "") + "<trace><broken"

    with pytest.raises(LogError, match="after 1 cases"):
        found.extend(read_log(write(text)))
    reader = read_log(write(text))

    assert next(reader).id == "c1"


def test_the_population_is_the_real_one() -> None:
    cases = list(generate())

    assert len(cases) == total() == 10_357
    assert sum(len(case.events) for case in cases) == 55_628
    assert len({tuple(e.activity for e in case.events) for case in cases}) == 90


def test_a_sample_is_proportional_and_the_same_each_time() -> None:
    cases = list(generate(500))

    assert cases == list(generate(500))
    assert len(cases) == 500
    assert all(a.at < b.at for case in cases for a, b in zip(case.events, case.events[1:], strict=False))
    with pytest.raises(ValueError, match="At least one"):
        next(generate(0))


@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    cases = list(generate(20))

    assert write_log(cases, tmp_path / name) == 20

    again = list(read_log(tmp_path / name))
    assert [[(e.activity, e.at) for e in case.events] for case in again] == [
        [(e.activity, e.at) for e in case.events] for case in cases
    ]
    assert [case.amount for case in again] == [case.amount for case in cases]
