"""The ledger outside of the database: a file, one line per effect, written in one piece."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any


def folder() -> Path:
    return Path(os.environ["CHAOS_FOLDER"])


def append(name: str, **facts: Any) -> None:
    """Add a line to a ledger; lines of several processes do not mix."""
    line = json.dumps({**facts, "pid": os.getpid(), "at": time.time()}) + "\n"
    handle = os.open(folder() / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def lines(name: str) -> list[dict[str, Any]]:
    path = folder() / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def counts(name: str) -> Counter[str]:
    """Key -> how many lines it has."""
    return Counter(line["key"] for line in lines(name))
