from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    attempts: int = 1
    backoff: str = "exponential"
    delay: str = "1s"
    cap: str = "5m"
    jitter: float = 0.0
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        return []

    def decide(
        self,
        *,
        attempt: int,
        error_names: Any,
        retryable: bool | None,
        retry_after: timedelta | None,
        unit: float,
    ) -> timedelta | None:
        if retryable is False or attempt >= self.attempts:
            return None
        return retry_after or timedelta(seconds=1)
