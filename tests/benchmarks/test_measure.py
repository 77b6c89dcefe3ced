from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_measures_both_ways_and_they_leave_the_same_rows(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--databases", "sqlite", "--json"]

    subprocess.run([*command, str(target), "--only", "A,B"], cwd=ROOT, check=True, capture_output=True)

    found = json.loads(target.read_text())
    assert found["A"]["sqlite"]["same_rows"] is True
    assert found["A"]["sqlite"]["queries"] == {"start": 7, "decide": 7, "decide_with_queue": 8}
    assert found["A"]["sqlite"]["commits"] == {"start": 1, "decide": 1}
    assert set(found["B"]["sqlite"]) == {"ours", "floor", "ratio", "queries"}


def test_an_unknown_scenario_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "Z"], cwd=ROOT, check=False, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "'Z' is unknown" in done.stderr
