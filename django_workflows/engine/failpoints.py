"""Places where a test may let this process die, to see that nothing is lost by it.

``WORKFLOWS_FAILPOINTS="F2:1,F5:3"`` kills the process by SIGKILL when it reaches F2 for the first
and F5 for the third time. With ``WORKFLOWS_FAILPOINT_TOKENS`` (a folder) every death takes one file
``F2-<anything>`` out of it, and where none is left nobody dies. Without these variables a place
costs one look at a constant.

F0 before the claim is committed; F1 claimed, before the effect; F2 effect done, before its result is
committed; F3 while the commit is on its way; F4 committed, before anything is dispatched; F5 done,
before the queue is told; F6 inside a hook after the commit; F7 between the jobs of a fan-out; F8 at a
join; F9 while a person modifies a step; F10 while history is deleted; F11 while a timer fires; F12
between a decision and what follows it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

NAMES: Final = tuple(f"F{number}" for number in range(13))


def _armed(text: str) -> dict[str, int]:
    """Name -> at which time of reaching it this process dies."""
    found = {}
    for item in filter(None, text.split(",")):
        name, _, nth = item.strip().partition(":")
        if name not in NAMES or not (nth or "1").isdigit():
            raise ValueError(f"WORKFLOWS_FAILPOINTS: {item!r} is no failpoint; write for example F2:1.")
        found[name] = int(nth or "1")
    return found


ARMED: Final = _armed(os.environ.get("WORKFLOWS_FAILPOINTS", ""))
_reached: Counter[str] = Counter()


def reach(name: str, what: str = "") -> None:
    """Die here if that is wanted; ``what`` is noted in the token that the death takes."""
    if name not in ARMED:
        return
    _reached[name] += 1
    if _reached[name] < ARMED[name] or not _take_token(name, what):
        return
    if name == "F3":
        _die_soon()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _take_token(name: str, what: str) -> bool:
    folder = os.environ.get("WORKFLOWS_FAILPOINT_TOKENS", "")
    if not folder:
        return True
    for token in sorted(Path(folder).glob(f"{name}-*")):
        taken = Path(folder, f"taken-{token.name}")
        try:
            token.rename(taken)
        except OSError:
            continue  # another process was faster
        taken.write_text(f"{os.getpid()} {time.time():.6f} {what}\n")
        return True
    return False


def _die_soon() -> None:
    """Let another process do it while this one commits: whether the commit arrives is open."""
    victim = os.getpid()
    if os.fork() == 0:
        time.sleep(random.random() * 0.002)  # noqa: S311 - no secret
        os.kill(victim, signal.SIGKILL)
        os._exit(0)
