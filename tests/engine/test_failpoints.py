from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from django_workflows.engine import failpoints

REACH = """
from django_workflows.engine.failpoints import reach
for number in range(5):
    reach("F1", "x")
    print(number, flush=True)
"""


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", REACH], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def test_without_the_variable_nobody_dies() -> None:
    assert run(WORKFLOWS_FAILPOINTS="").returncode == 0


def test_a_process_dies_when_it_reaches_the_place_for_the_nth_time() -> None:
    done = run(WORKFLOWS_FAILPOINTS="F2:1,F1:3")

    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])


def test_every_death_takes_a_token_and_without_one_nobody_dies(tmp_path: Any) -> None:
    (tmp_path / "F1-1").touch()
    variables = {"WORKFLOWS_FAILPOINTS": "F1:1", "WORKFLOWS_FAILPOINT_TOKENS": str(tmp_path)}

    assert [run(**variables).returncode for _ in range(2)] == [-signal.SIGKILL, 0]
    assert (tmp_path / "taken-F1-1").read_text().endswith("x\n")


@pytest.mark.parametrize("text", ["F13:1", "F1:x", "nonsense"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no failpoint"):
        failpoints._armed(text)
