from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from example_project.expenses.xes import Case, Event, write_log

ROOT = Path(__file__).resolve().parents[2]
BEGIN = datetime(2017, 3, 1, 9, tzinfo=UTC)
CODES = {
    "SAVED": "{} SAVED by EMPLOYEE",
    "SUB": "{} SUBMITTED by EMPLOYEE",
    "BACK": "{} REJECTED by EMPLOYEE",
    "MISSING": "{} REJECTED by MISSING",
    "REQ": "Request Payment",
    "PAID": "Payment Handled",
    "A:PRE": "{} APPROVED by PRE_APPROVER",
    "A:ADM": "{} APPROVED by ADMINISTRATION",
    "A:BO": "{} APPROVED by BUDGET OWNER",
    "A:SUP": "{} APPROVED by SUPERVISOR",
    "F:SUP": "{} FINAL_APPROVED by SUPERVISOR",
    "F:DIR": "{} FINAL_APPROVED by DIRECTOR",
    "R:PRE": "{} REJECTED by PRE_APPROVER",
    "R:ADM": "{} REJECTED by ADMINISTRATION",
    "R:BO": "{} REJECTED by BUDGET OWNER",
    "R:SUP": "{} REJECTED by SUPERVISOR",
    "ODD": "{} FOR_APPROVAL by SUPERVISOR",
}
FITS = [
    "SAVED",
    "SUB F:SUP REQ PAID",
    "SUB A:ADM A:BO F:SUP REQ PAID",
    "SUB A:PRE F:SUP REQ PAID",
    "SUB R:ADM BACK SUB A:ADM F:SUP REQ PAID",
    "SUB R:ADM SUB BACK SUB A:ADM F:SUP REQ PAID",
    "SUB A:ADM R:BO BACK",
    "SUB A:PRE R:SUP BACK SUB R:PRE",
    "SUB F:SUP MISSING SUB F:SUP REQ MISSING",
    "SUB A:SUP F:DIR REQ PAID",
]
MISFITS = {
    "SAVED REQ PAID": ("2: Request Payment", "waits at draft"),
    "SUB R:SUP REQ PAID BACK": ("3: Request Payment", "waits at rework"),
    "SUB A:ADM R:SUP SUB A:ADM F:SUP PAID": ("7: Payment Handled", "waits at release"),
    "F:SUP": ("1: ", "A case begins with"),
    "SUB ODD": ("2: ", "knows no activity"),
    "SUB F:SUP REQ PAID SUB": ("5: ", "completed"),
}


def case(path: str, number: int, document: str) -> Case:
    known = {"(case)_Amount": 12.5, "(case)_DeclarationNumber": f"number {number}"}
    events = tuple(
        Event(activity=CODES[code].format(document), at=BEGIN + timedelta(days=4 * place), attributes=known)
        for place, code in enumerate(path.split())
    )
    return Case(id=f"case {number}", events=events, attributes={})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database of the example, which is a project of its own."""
    folder = tmp_path_factory.mktemp("example")
    run(folder, "migrate", "-v0")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "EXAMPLE_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def replay(
    home: Path, tmp_path: Path, paths: list[str], *options: str, document: str = "Declaration"
) -> dict[str, Any]:
    log, target = tmp_path / "log.xes.gz", tmp_path / "found.json"
    write_log([case(path, number, document) for number, path in enumerate(paths)], log)
    done = run(home, "replay_declarations", str(log), "--json", str(target), *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def test_what_a_university_does_is_reproduced_event_for_event(home: Path, tmp_path: Path) -> None:
    found = replay(home, tmp_path, FITS)

    assert found["not_reproduced"] == []
    assert (found["cases"], found["reproduced"], found["stuck"]) == (len(FITS), len(FITS), [])
    assert found["events"] == sum(len(path.split()) for path in FITS)
    assert found["outcomes"] == {"paid": 6, "open": 4}
    assert set(found) == {
        "cases", "events", "reproduced", "not_reproduced", "stuck", "outcomes", "seconds", "cases_per_second",
    }  # fmt: skip


def test_what_does_not_fit_is_reported_with_the_first_such_event(home: Path, tmp_path: Path) -> None:
    found = replay(home, tmp_path, list(MISFITS))

    assert found["reproduced"] == 0
    for misfit, (place, reason) in zip(found["not_reproduced"], MISFITS.values(), strict=True):
        assert misfit["event"].startswith(place), misfit
        assert reason in misfit["reason"], misfit
    assert found["stuck"] == []


def test_sister_logs_bear_another_prefix(home: Path, tmp_path: Path) -> None:
    document = "Request For Payment"

    found = replay(home, tmp_path, FITS, "--document", document, document=document)

    assert found["reproduced"] == len(FITS)


def test_a_real_cluster_gives_the_same_outcomes(home: Path, tmp_path: Path) -> None:
    found = replay(home, tmp_path, FITS, "--executor", "django_q")

    assert found["not_reproduced"] == []
    assert found["outcomes"] == {"paid": 6, "open": 4}


def test_several_threads_find_the_same(home: Path, tmp_path: Path) -> None:
    found = replay(home, tmp_path, [*FITS, *MISFITS], "--threads", "3")

    assert (found["cases"], found["reproduced"], found["stuck"]) == (len(FITS) + len(MISFITS), len(FITS), [])


def test_the_clock_of_the_log_is_the_clock_of_the_history(tmp_path: Path) -> None:
    run(tmp_path, "migrate", "-v0")
    replay(tmp_path, tmp_path, ["SUB A:ADM F:SUP REQ PAID"])
    question = (
        "from django_workflows.models import WorkflowEvent;"
        "lines = WorkflowEvent.objects.filter(instance__isnull=False);"
        "print(lines.filter(name='human_task_overdue').exists(), set(lines.values_list('at__year', flat=True)))"
    )

    done = run(tmp_path, "shell", "-v0", "-c", question)

    assert "True {2017}" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["nothing.xes"], "No such file", id="missing"),
        pytest.param(["{log}", "--limit", "0"], "at least 1", id="limit"),
        pytest.param(["{log}", "--json", "/nowhere/found.json"], "there is no folder", id="json"),
        pytest.param(["{broken}"], "line", id="truncated"),
        pytest.param(["{log}", "--executor", "celery"], "invalid choice", id="executor"),
    ],
)
def test_bad_arguments_are_one_clear_line_and_never_a_traceback(
    home: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    log, broken = tmp_path / "log.xes", tmp_path / "broken.xes"
    write_log([case("SAVED", 1, "Declaration")], log)
    broken.write_text(log.read_text()[:-30])

    done = run(home, "replay_declarations", *[text.format(log=log, broken=broken) for text in arguments])

    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_prints_what_came_of_it() -> None:
    command = [sys.executable, "-m", "example_project.demo", "--limit", "30"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
    assert "Reproduced event for event" in done.stdout
    assert "How to go on" in done.stdout
