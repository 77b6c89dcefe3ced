"""``python -m benchmarks.chaos``: what survives, counted.

python -m benchmarks.chaos --kills 200 --json chaos.json --database postgres
python -m benchmarks.chaos --scenario R8 --database sqlite
python -m benchmarks.chaos --all --table docs/reliability.md
python -m benchmarks.chaos --bugs
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .course import Options, Result
from .scenarios import ON_POSTGRES, SCENARIOS

FAILPOINTS = tuple(f"F{number}" for number in range(13))

#: Scenario -> how often, in the full run; the quick one takes a tenth.
FULL = {
    "R1": 600,
    "R2": 100,
    "R3": 60,
    "R4": 50,
    "R5": 20,
    "R6": 5,
    "R8": 200,
    "R31": 1700,
    "R43": 4,
    "R2-idle": 3,
    "R19": 1,
    "R20": 1,
    "R21": 1,
}
SECONDS = {"R19": 60.0, "R20": 180.0, "R21": 60.0}

#: Planted bug -> the run that must turn red by it.
RED: dict[str, tuple[str, ...]] = {
    "no_fence": ("--scenario", "R8", "--kills", "6"),
    "no_requeue": ("--scenario", "R31", "--kills", "20"),
    "no_interrupt": ("--kills", "9"),
    "repeats_in_doubt": ("--kills", "15"),
    "gap": ("--kills", "3"),
    "completes_nothing": ("--kills", "3"),
    "effect_apart": ("--kills", "15", "--database", "postgres"),
    "lease_by_a_wrong_clock": ("--scenario", "R8", "--kills", "6"),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=_positive, default=30, metavar="N", help="how many deaths, or rounds (30)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--at", type=_places, default=("F2",), metavar="F2,F3,random", help="where workers die (F2)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None, help="how long R19 to R21 go on")
    parser.add_argument("--scenario", choices=(*SCENARIOS, *ON_POSTGRES), default="R1")
    parser.add_argument("--bug", default="", help="plant a bug; the run must then turn red")
    parser.add_argument("--bugs", action="store_true", help="plant every bug in turn")
    parser.add_argument("--all", action="store_true", help="every scenario on both databases")
    parser.add_argument("--quick", action="store_true", help="with --all: a tenth of everything")
    parser.add_argument("--table", type=Path, default=None, metavar="FILE", help="with --all: write the table there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("there must be at least one")
    return number


def _places(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in (*FAILPOINTS, "random"):
            raise argparse.ArgumentTypeError(f"{name!r} is no failpoint; F0 to F12, or random")
    return names


def main() -> int:
    chosen = arguments()
    if chosen.bugs:
        return _plant_all(chosen.database)
    if chosen.all:
        return _run_all(chosen)
    result = _run(chosen)
    report = as_json(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    print(row_of(report))
    for violation in result.violations[:20]:
        print("  ", violation)
    return 1 if result.is_red else 0


def _run(chosen: argparse.Namespace) -> Result:
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    options = Options(
        database=chosen.database,
        n=chosen.kills,
        seed=seed,
        bug=chosen.bug,
        at=("random",) if chosen.scenario == "R3" else chosen.at,
        seconds=chosen.seconds or SECONDS.get(chosen.scenario, 20.0),
    )
    started = time.monotonic()
    result = {**SCENARIOS, **ON_POSTGRES}[chosen.scenario](options)
    result.minutes = (time.monotonic() - started) / 60
    return result


def as_json(result: Result) -> dict[str, Any]:
    """``modes`` maps a mode to its counts; ``kills`` is how many processes or rounds there were."""
    names = ("test", "database", "seed", "lost", "duplicated", "stuck", "wrong", "facts", "violations")
    found = {name: getattr(result, name) for name in names}
    return {"kills": result.n, "modes": result.modes, "minutes": round(result.minutes, 2), **found}


def row_of(report: dict[str, Any]) -> str:
    names = ("test", "database", "kills", "lost", "duplicated", "stuck", "wrong", "seed", "minutes")
    facts = "; ".join(f"{name}: {value}" for name, value in report["facts"].items() if value)
    doubts = sum(mode.get("in_doubt", 0) for mode in report["modes"].values())
    if doubts:
        facts = f"in doubt, as incidents: {doubts}" + (f"; {facts}" if facts else "")
    return "| " + " | ".join(str(report[name]) for name in names) + f" | {facts} |"


HEAD = (
    "| test | database | N | lost | duplicated | stuck | wrong | seed | minutes | beside |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def _run_all(chosen: argparse.Namespace) -> int:
    plan = [(name, database) for name in SCENARIOS for database in ("sqlite", "postgres")]
    plan += [(name, "postgres") for name in ON_POSTGRES]
    rows, red = [HEAD], 0
    print(HEAD, flush=True)
    for name, database in plan:
        report = _in_process(name, database, chosen)
        red += bool(report["exit"])
        rows.append(row_of(report))
        print(rows[-1], flush=True)
        for violation in report["violations"][:5]:
            print("  ", violation, flush=True)
    if chosen.table:
        _write_table(chosen.table, "\n".join(rows))
    return 1 if red else 0


def _in_process(name: str, database: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Each scenario has a process, a database and a Django of its own."""
    count, seconds = FULL.get(name, 1), SECONDS.get(name, 20.0)
    if chosen.quick:
        count, seconds = max(2, count // 10), max(10.0, seconds / 10)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "report.json")
        words = ["--scenario", name, "--database", database, "--kills", str(count), "--seconds", str(seconds)]
        done = _call(*words, "--json", str(target))
        if not target.exists():
            raise RuntimeError(f"{name} on {database} gave no report:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return {**json.loads(target.read_text()), "exit": done.returncode}


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *words], capture_output=True, text=True, check=False
    )


BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


def _write_table(path: Path, table: str) -> None:
    """Between the two marks of a page, or as a page of its own."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def _plant_all(database: str) -> int:
    missed = 0
    for bug, words in RED.items():
        done = _call("--bug", bug, *(() if "--database" in words else ("--database", database)), *words)
        caught = done.returncode == 1 and "Traceback" not in done.stderr
        missed += not caught
        print(f"{bug:<24} {'caught' if caught else 'MISSED'}", *done.stdout.splitlines()[1:2], flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
