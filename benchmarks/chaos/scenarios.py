"""What is done to the fleet, by the numbers of the reliability tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from uuid import UUID

from .course import ROLES, Options, Result, fleet_of, seeded, start_all, unfinished
from .databases import backends, crashes, restarts
from .workers import hangs, idle, poison, zombies
from .world import settle, world

#: How often, at most, a second is spent on feeding what has still to be killed.
FEEDS = 90


def modes(options: Options) -> Result:
    """R1, R3: workers die at failpoints, or everything dies at random times, under all three modes."""

    places = [place for place in options.at if place != "random"]
    share = {place: options.n // len(options.at) for place in options.at}
    share[options.at[0]] += options.n - sum(share.values())
    with world(options.database) as made:
        from .workflows import MODES

        seeded(made, options)
        environment = made.arm({place: share[place] for place in places}) if places else {}
        per_mode = options.n // 3 + 20 if places else max(150, options.n * 15)
        started = start_all(list(MODES.values()), per_mode * len(MODES))
        acknowledged = {mode: started[number :: len(MODES)] for number, mode in enumerate(MODES)}
        random_kills = 0
        with fleet_of(options, environment=environment) as fleet:
            while random_kills < share.get("random", 0) and unfinished():
                time.sleep(made.rng.uniform(0.2, 1.0))
                fleet.kill()
                random_kills += 1
                fleet.supervise()
            settle(fleet, unfinished)
            fleet.stop()
        return _result_of_modes(options, acknowledged, made.deaths() + random_kills)


def _result_of_modes(options: Options, acknowledged: Mapping[str, list[UUID]], kills: int) -> Result:
    from . import checker

    result = Result(test=_name_of(options), database=options.database, n=kills, seed=options.seed)
    for mode, keys in acknowledged.items():
        tally = checker.check_mode(mode, keys)
        if tally.duplicated > (kills if mode == "at_least_once" else 0):
            tally.violations.append(f"{mode}: {tally.duplicated} duplicates by {kills} kills")
        result.modes[mode] = asdict(tally)
        result.add(tally)
    return result


def _name_of(options: Options) -> str:
    return f"R3 {options.at[0]}" if "random" in options.at else f"R1 {','.join(options.at)}"


def failpoints(options: Options) -> Result:
    """R2: every failpoint in turn, under a workflow that meets every kind of transition."""
    with world(options.database) as made:
        from django_workflows.engine.failpoints import NAMES

        from . import checker

        environment = made.arm(dict.fromkeys(NAMES, options.n))
        count, began = options.n * 6 + 4, time.monotonic()
        acknowledged = start_all(["chaos-mixed"], count, data={"fails": True})
        with fleet_of(options, (*ROLES, "robot", "pruner"), environment) as fleet:
            feeds = [began + 5]

            def left() -> int:
                # what is pruned while it is killed must be made anew, and so must what meets the last deaths
                if not made.pending() or len(feeds) > FEEDS:
                    return _unfinished_mixed()
                if time.monotonic() > feeds[-1]:
                    feeds.append(time.monotonic() + 1)
                    start_all(["chaos-at-least-once"], 3)
                    acknowledged.extend(start_all(["chaos-mixed"], 3, data={"fails": True}))
                return 1 + _unfinished_mixed()

            settle(fleet, left)
            fleet.stop()
        tally = checker.check_mixed(acknowledged)
        result = Result(test="R2 F0-F12", database=options.database, n=made.deaths(), seed=options.seed)
        missed = sorted({path.name.partition("-")[0] for path in made.tokens.glob("F*")})
        result.facts = {"not reached": missed, "stalled clusters replaced": fleet.stalls}
        result.add(tally)
        return result


def _unfinished_mixed() -> int:
    """A person's correction is part of it: the robot makes it."""
    from django_workflows.models import WorkflowInstance

    return WorkflowInstance.objects.running().count()


def kill_all(options: Options) -> Result:
    """R4: everything is killed at once and started again; how long until something moves?"""
    with world(options.database) as made:
        from django_workflows.models import WorkflowEvent

        from . import checker

        seeded(made, options)
        acknowledged = start_all(["chaos-mixed"], options.n * 4 + 20, data={"fails": False})
        waits = []
        with fleet_of(options, (*ROLES, "robot")) as fleet:
            for _ in range(options.n):
                time.sleep(made.rng.uniform(0.3, 1.0))
                fleet.kill()
                before, started = WorkflowEvent.objects.count(), time.monotonic()
                fleet.supervise()
                while _unfinished_mixed() and WorkflowEvent.objects.count() == before:
                    time.sleep(0.02)
                waits.append(time.monotonic() - started)
            settle(fleet, _unfinished_mixed)
            fleet.stop()
        result = Result(test="R4 all at once", database=options.database, n=options.n, seed=options.seed)
        result.facts = {"first progress, s": {"median": round(median(waits), 2), "max": round(max(waits), 2)}}
        result.add(checker.check_mixed(acknowledged))
        if max(waits) > 10:
            result.violations.append(f"R4: after one kill nothing moved for {max(waits):.1f} s")
        return result


def shutdown(options: Options) -> Result:
    """R5: SIGTERM, and SIGKILL a second later, under load."""
    with world(options.database) as made:
        from . import checker

        seeded(made, options)
        acknowledged = start_all(["chaos-mixed"], options.n * 4 + 20, data={"fails": True})
        with fleet_of(options, (*ROLES, "robot")) as fleet:
            for _ in range(options.n):
                time.sleep(made.rng.uniform(0.3, 1.0))
                for pid in fleet.pids("cluster"):
                    os.kill(pid, signal.SIGTERM)
                time.sleep(1.0)
                fleet.kill("cluster")
                fleet.supervise()
            settle(fleet, _unfinished_mixed)
            fleet.stop()
        result = Result(test="R5 SIGTERM, SIGKILL", database=options.database, n=options.n, seed=options.seed)
        result.add(checker.check_mixed(acknowledged))
        return result


def messages(options: Options) -> Result:
    """R31: of ten messages one is lost, the others come one to five times, late and shuffled."""
    with world(options.database, executor="benchmarks.chaos.executor.UnreliableExecutor"):
        from . import checker
        from .workflows import MODES

        acknowledged = {mode: start_all([flow], options.n) for mode, flow in MODES.items()}
        with fleet_of(options) as fleet:
            settle(fleet, unfinished)
            fleet.stop()
        result = Result(test="R31 messages", database=options.database, n=options.n * 3, seed=options.seed)
        for mode, keys in acknowledged.items():
            tally = checker.check_mode(mode, keys)
            if tally.duplicated or tally.in_doubt:
                tally.violations.append(
                    f"{mode}: {tally.duplicated} duplicates, {tally.in_doubt} in doubt, by messages"
                )
            result.modes[mode] = asdict(tally)
            result.add(tally)
        return result


#: Name -> the scenario; those of the second table need PostgreSQL.
SCENARIOS: dict[str, Callable[[Options], Result]] = {
    "R1": modes,
    "R2": failpoints,
    "R3": modes,
    "R4": kill_all,
    "R5": shutdown,
    "R6": poison,
    "R8": zombies,
    "R31": messages,
    "R43": hangs,
    "R2-idle": idle,
}
ON_POSTGRES: dict[str, Callable[[Options], Result]] = {"R19": backends, "R20": restarts, "R21": crashes}
