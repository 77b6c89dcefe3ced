"""The small part of the chaos runs; ``tox run -e chaos`` does all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    report = tmp_path / "report.json"
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *words, "--json", str(report)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(report.read_text())


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_r1_every_mode_keeps_its_promise_when_workers_are_killed(tmp_path: Path, database: str) -> None:
    status, report = run(tmp_path, "--kills", "15", "--database", database)

    assert (status, report["violations"], report["kills"]) == (0, [], 15)
    for mode in ("transactional", "at_least_once", "at_most_once"):
        counts = report["modes"][mode]
        assert counts["instances"] == 25
        assert (counts["lost"], counts["stuck"], counts["wrong"]) == (0, 0, 0)
    assert report["modes"]["transactional"]["duplicated"] == report["modes"]["at_most_once"]["duplicated"] == 0
    assert 1 <= report["modes"]["at_least_once"]["duplicated"] <= 15
    assert report["modes"]["at_most_once"]["in_doubt"] >= 1


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("scenario", "count"),
    [("R2", 1), ("R3", 4), ("R8", 4), ("R31", 10), ("R43", 1)],
    ids=["R2", "R3", "R8", "R31", "R43"],
)
def test_the_house_stays_sound(tmp_path: Path, database: str, scenario: str, count: int) -> None:
    status, report = run(tmp_path, "--scenario", scenario, "--kills", str(count), "--database", database)

    assert (status, report["violations"]) == (0, [])
    assert (report["lost"], report["stuck"], report["wrong"]) == (0, 0, 0)
    assert report["kills"] >= (13 if scenario == "R2" else count)


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("repeats_in_doubt", ("--kills", "15")),
        ("gap", ("--kills", "3")),
        ("no_fence", ("--scenario", "R8", "--kills", "6")),
    ],
)
def test_a_planted_bug_turns_the_run_red(tmp_path: Path, bug: str, words: tuple[str, ...]) -> None:
    status, report = run(tmp_path, *words, "--bug", bug)

    assert status == 1
    assert report["violations"]
