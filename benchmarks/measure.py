"""One database: ours and the floor in turn, within one process. Started by ``benchmarks.__main__``."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import django

FRAMING = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")


def main() -> None:
    """Arguments by one JSON text; the findings are the last line of the output."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from benchmarks.workload import World

    world = World()
    scenarios = {"A": scenario_a, "B": scenario_b, "C": scenario_c}
    found = {name: scenarios[name](world, options) for name in options["only"]}
    print(json.dumps(found))


def per_second(call: Callable[[int], Any], times: int, offset: int) -> float:
    gc.collect()
    begun = time.perf_counter()
    for number in range(times):
        call(offset + number)
    return times / (time.perf_counter() - begun)


def in_turn(
    ours: Callable[[int], Any], floor: Callable[[int], Any], options: dict[str, Any], times: int
) -> dict[str, Any]:
    """Medians over the rounds; within a round both run in short slices, one after the other."""
    for number in range(5):
        ours(number)
        floor(number)
    found: dict[str, list[float]] = {"ours": [], "floor": []}
    for round_ in range(options["rounds"]):
        pair = [("ours", ours), ("floor", floor)]
        for name, call in pair if round_ % 2 == 0 else reversed(pair):
            found[name].append(per_second(call, times, 100 + round_ * times))
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    ratios = [a / b for a, b in zip(found["ours"], found["floor"], strict=True)]
    return {**medians, "ratio": round(statistics.median(ratios), 3)}


def statements(call: Callable[[], Any]) -> tuple[int, int]:
    """Statements without the framing of transactions, and commits."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        call()
    texts = [query["sql"] for query in captured.captured_queries]
    return len([text for text in texts if not text.startswith(FRAMING)]), texts.count("COMMIT")


def scenario_a(world: Any, options: dict[str, Any]) -> dict[str, Any]:
    from django_workflows import services
    from django_workflows.models import HumanTask

    found = in_turn(
        lambda number: world.decide(world.start(number)),
        lambda number: world.floor_decide(world.floor_start(number)),
        options,
        options["times"],
    )
    key: list[Any] = []
    start = statements(lambda: key.append(world.start(0)))
    task = HumanTask.objects.filter(instance=key[0]).get()
    decide = statements(lambda: services.decide(task, "approved", by=world.manager))
    found["queries"] = {"start": start[0], "decide": decide[0], "decide_with_queue": _queued(world)}
    found["commits"] = {"start": start[1], "decide": decide[1]}
    found["same_rows"] = same_rows(world)
    return found


def _queued(world: Any) -> int:
    """Deciding where the next step goes to django-q2's ORM broker in the same transaction."""
    from django.test.utils import override_settings

    from django_workflows import services
    from django_workflows.models import HumanTask

    with override_settings(WORKFLOWS_EXECUTOR="django_q"):
        instance = services.start("bench-queued", by=world.starter, data={"amount": 1})
        task = HumanTask.objects.get(instance=instance)
        return statements(lambda: services.decide(task, "approved", by=world.manager))[0]


def same_rows(world: Any) -> bool:
    """Whether both ways leave the same number of rows in every table."""
    from benchmarks.workload import row_counts

    def growth(call: Callable[[], Any]) -> dict[str, int]:
        before = row_counts()
        call()
        return {name: count - before[name] for name, count in row_counts().items()}

    ours = growth(lambda: world.decide(world.start(1)))
    return ours == growth(lambda: world.floor_decide(world.floor_start(1)))


def scenario_b(world: Any, options: dict[str, Any]) -> dict[str, Any]:
    """In steps per second."""
    from benchmarks.workload import STEPS

    found = in_turn(world.chain, world.floor_chain, options, max(2, options["times"] // 8))
    start = statements(lambda: world.chain(0))
    return {
        "ours": round(found["ours"] * STEPS, 1),
        "floor": round(found["floor"] * STEPS, 1),
        "ratio": found["ratio"],
        "queries": {"chain": start[0], "per_step": round(start[0] / STEPS, 1)},
    }


def scenario_c(world: Any, options: dict[str, Any]) -> dict[str, Any]:
    from django.db import connection

    found = {}
    for size in options["sizes"]:
        world.fill(size)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        row = in_turn(
            lambda number: world.decide(world.start(number)),
            lambda number: world.floor_decide(world.floor_start(number)),
            options,
            max(5, options["times"] // 3),
        )
        row["inbox_ms"] = _milliseconds(world.inbox)
        row["inbox_queries"] = statements(world.inbox)[0]
        found[str(size)] = row
    return found


def _milliseconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(25):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    main()
