"""What runs while everything is being killed."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from django_workflows import (
    Retry,
    Workflow,
    approval,
    end,
    fork,
    group,
    join,
    machine,
    signals,
    step_function,
    timer,
)
from django_workflows.engine.failpoints import ARMED
from django_workflows.states import EventName

from . import ledger


@step_function(name="chaos.outside")
def outside(ctx: Any) -> str:
    """An effect in the world outside."""
    ledger.append("effects", key=ctx.idempotency_key, step=ctx.step, attempt=ctx.attempt)
    return "done"


@step_function(name="chaos.inside")
def inside(ctx: Any) -> str:
    """An effect in our database."""
    from .models import LedgerLine  # the models are not loaded when this module is

    LedgerLine.objects.create(key=ctx.idempotency_key, pid=os.getpid())
    return "done"


@step_function(name="chaos.kill")
def kill(ctx: Any) -> None:
    """A step that takes its worker with it, every time."""
    ledger.append("deaths", key=ctx.idempotency_key)
    os.kill(os.getpid(), signal.SIGKILL)


@step_function(name="chaos.devour")
def devour(ctx: Any) -> int:
    """A step that takes more memory than there is."""
    ledger.append("deaths", key=ctx.idempotency_key)
    resource.setrlimit(resource.RLIMIT_AS, (600_000_000, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return sum(len(bytearray(50_000_000)) for _ in iter([bytearray(50_000_000) for _ in range(100)]))


@step_function(name="chaos.freeze")
def freeze(ctx: Any) -> str:
    """Notes itself, and leaves time to be stopped in; its effect comes after."""
    ledger.append("frozen", key=ctx.idempotency_key, attempt=ctx.attempt)
    time.sleep(0.6)
    ledger.append("effects", key=ctx.idempotency_key, step=ctx.step, attempt=ctx.attempt)
    return f"attempt {ctx.attempt}"


@step_function(name="chaos.spin")
def spin(ctx: Any) -> None:
    """Hangs in Python, and takes every error for its own."""
    while True:
        with suppress(Exception):
            time.sleep(0.001)


@step_function(name="chaos.block")
def block(ctx: Any) -> None:
    """Hangs in the operating system."""
    threading.Event().wait()


@step_function(name="chaos.deadlock")
def deadlock(ctx: Any) -> None:
    """Hangs where no signal wakes it: a mutex of the C library, locked twice."""
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


@step_function(name="chaos.hang_async")
async def hang_async(ctx: Any) -> None:
    await asyncio.Event().wait()


@step_function(name="chaos.sometimes")
def sometimes(ctx: Any) -> str:
    """Fails at first, for the retry's timer to be met as well."""
    ledger.append("effects", key=ctx.idempotency_key, step=ctx.step, attempt=ctx.attempt)
    if ctx.get("fails") and ctx.attempt == 1:
        raise OSError("not yet")
    return "done"


@step_function(name="chaos.by_hand")
def by_hand(ctx: Any) -> str:
    """Fails until a person has corrected the data."""
    if not ctx.get("corrected"):
        raise ValueError("to be corrected by hand")
    return "done"


class Transactional(Workflow):
    name = "chaos-transactional"
    one = machine("chaos.inside", mode="transactional")
    two = machine("chaos.inside", mode="transactional")


class AtLeastOnce(Workflow):
    name = "chaos-at-least-once"
    one = machine("chaos.outside")
    two = machine("chaos.outside")


class AtMostOnce(Workflow):
    name = "chaos-at-most-once"
    one = machine("chaos.outside", mode="at_most_once")
    two = machine("chaos.outside", mode="at_most_once")


class Mixed(Workflow):
    """Every kind of transition: jobs, a fork and its join, a retry's timer, a person, a correction, a sleep."""

    name = "chaos-mixed"
    begin = machine("chaos.inside", mode="transactional")
    split = fork()
    call = machine("chaos.outside")
    pay = machine("chaos.inside", mode="transactional")
    again = machine("chaos.sometimes", retry=Retry(attempts=2, delay="0.1s"))
    meet = join()
    mend = machine("chaos.by_hand")
    ask = approval(assign=group("people"), due="30d")
    note = machine("chaos.inside", mode="inline")
    rest = timer("0.2s")
    book = machine("chaos.inside", mode="transactional")
    done = end("booked")
    flow = [begin >> split >> [call, pay, again] >> meet >> mend >> ask >> note >> rest >> book >> done]


class Poison(Workflow):
    name = "chaos-poison"
    kill = machine("chaos.kill")


class PoisonTransactional(Workflow):
    name = "chaos-poison-transactional"
    kill = machine("chaos.kill", mode="transactional")


class Hungry(Workflow):
    name = "chaos-hungry"
    devour = machine("chaos.devour")


class Spin(Workflow):
    name = "chaos-spin"
    hang = machine("chaos.spin", timeout="1s")


class Block(Workflow):
    name = "chaos-block"
    hang = machine("chaos.block", timeout="1s", mode="at_most_once")


class BlockTransactional(Workflow):
    name = "chaos-block-transactional"
    hang = machine("chaos.block", timeout="1s", mode="transactional")


class Deadlock(Workflow):
    name = "chaos-deadlock"
    hang = machine("chaos.deadlock", timeout="1s")


class HangAsync(Workflow):
    name = "chaos-hang-async"
    hang = machine("chaos.hang_async", timeout="1s")


#: Workflows that hang, each in its own way, and the kind of incident that they end in.
HANGING = {
    "chaos-spin": "step_failed",
    "chaos-block": "in_doubt",
    "chaos-block-transactional": "step_failed",
    "chaos-deadlock": "step_failed",
    "chaos-hang-async": "step_failed",
}


class Frozen(Workflow):
    name = "chaos-frozen"
    freeze = machine("chaos.freeze")


#: Mode -> the name of the workflow whose steps have it.
MODES = {mode: f"chaos-{mode.replace('_', '-')}" for mode in ("transactional", "at_least_once", "at_most_once")}


if "F6" in ARMED:  # a hook after the commit is reached only where somebody listens
    signals.SIGNALS[EventName.STEP_COMPLETED].connect(lambda **sent: None, weak=False)
