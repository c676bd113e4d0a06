"""How often an API had to be asked again."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import structlog

from pipeline.errors import Retryable

log = structlog.get_logger()


@dataclass
class Retries:
    """Requests to one API that repeat another; `rate_limited` of them because it answered 429."""

    api: str = ""
    count: int = 0
    rate_limited: int = 0

    def note(self, error: Retryable, attempt: int, wait_seconds: float) -> None:
        """Count and log one, before it is waited for."""
        self.count += 1
        self.rate_limited += error.status == HTTPStatus.TOO_MANY_REQUESTS
        log.warning(
            "retry",
            api=self.api,
            error_code=error.code,
            status=error.status,
            attempt=attempt,
            wait_seconds=round(wait_seconds, 2),
            error=error.message,
        )

    def __add__(self, other: Self) -> "Retries":
        return Retries("", self.count + other.count, self.rate_limited + other.rate_limited)
