"""``python -m benchmarks``: scenarios A, B and C on SQLite and PostgreSQL, beside the floor.

A: start → inline step → approval → inline step → end. B: a chain of ten transactional steps, durable after
each. C: A, and "my tasks, first page", at 1,000, 10,000 and 50,000 stored instances.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    parser.add_argument("--only", type=_some("A", "B", "C"), default=["A", "B", "C"])
    parser.add_argument("--databases", type=_some("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--rounds", type=int, default=None)
    return parser.parse_args()


def _some(*allowed: str) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is unknown; allowed: {', '.join(allowed)}")
        return names

    return read


@contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        yield f"sqlite:///{folder}/bench.sqlite3"


@contextmanager
def postgres() -> Iterator[str]:
    """``DATABASE_URL``, or a server of our own with fsync on."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    from tests.postgres import temp_postgres

    with temp_postgres(durable=True) as server:
        yield f"postgresql://{server.user}@/{server.dbname}?host={server.host}&port={server.port}"


def measured(url: str, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measure", json.dumps(options)]
    environment = {**os.environ, "DATABASE_URL": url}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    given = arguments()
    options = {
        "only": given.only,
        "rounds": given.rounds or (3 if given.quick else 7),
        "times": 25 if given.quick else 80,
        "sizes": [1000, 5000] if given.quick else [1000, 10_000, 50_000],
    }
    places = {"sqlite": sqlite, "postgres": postgres}
    results: dict[str, Any] = {name: {} for name in given.only}
    for database in given.databases:
        with places[database]() as url:
            for name, found in measured(url, options).items():
                results[name][database] = found
    results["meta"] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rounds": options["rounds"],
        "sqlite": "WAL, synchronous NORMAL, IMMEDIATE",
        "postgres": "fsync on",
    }
    print_table(results)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def print_table(results: dict[str, Any]) -> None:
    line = "{:<12} {:<10} {:>10} {:>10} {:>7}  {}"
    print(line.format("scenario", "database", "ours/s", "floor/s", "ratio", ""))
    for name in ("A", "B"):
        for database, row in results.get(name, {}).items():
            queries = ", ".join(f"{key} {value}" for key, value in row["queries"].items())
            print(line.format(name, database, row["ours"], row["floor"], row["ratio"], f"queries: {queries}"))
    for database, sizes in results.get("C", {}).items():
        for size, row in sizes.items():
            rest = f"inbox {row['inbox_ms']} ms, {row['inbox_queries']} query"
            print(line.format(f"C {size}", database, row["ours"], row["floor"], row["ratio"], rest))


if __name__ == "__main__":
    main()
