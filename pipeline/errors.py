"""Everything that can go wrong, in one tree; the codes are in `schemas.events.ErrorCode`.

PipelineError
├── Refused    the event, the Steam id, the settings or the credentials are wrong: mend them   (exit status 2)
├── Failed     the answer is final: a private library, a checkpoint that is not one, …          (exit status 1)
└── Retryable  the same call may go through later; raised by handlers, for Step Functions       (exit status 75)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # else an error would import pydantic, and `steam-import --help` with it
    from schemas.events import ErrorCode


class PipelineError(Exception):
    """What our callers catch: a code for programs, and a sentence that says what, where and what to do next."""

    retryable = False
    is_cancelled = False

    def __init__(self, code: "ErrorCode", message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: ErrorCode = code
        self.message = message

    def __reduce__(self) -> tuple[type["PipelineError"], tuple["ErrorCode", str]]:
        """So that one comes whole out of another process."""
        return type(self), (self.code, self.message)


class Refused(PipelineError):
    """The caller has to mend the event, the Steam id, the settings or the credentials."""


class Failed(PipelineError):
    """The outside world gave a final answer, and it is not what the stage needs."""


class Retryable(PipelineError):
    """The stage's own retries are used up; the same event may go through later."""

    retryable = True

    def __init__(  # noqa: PLR0913 - each a hint of its own
        self,
        code: "ErrorCode",
        message: str,
        *,
        retry_after: float | None = None,
        is_too_much: bool = False,
        is_too_often: bool = False,
        is_cancelled: bool = False,
        status: int | None = None,
    ) -> None:
        """What the other side hints at.

        Seconds to wait, that a smaller or a later request may go through, or that a person stopped this one.
        `status` is that of its answer, where there was one.
        """
        super().__init__(code, message)
        self.retry_after = retry_after
        self.is_too_much = is_too_much
        self.is_too_often = is_too_often
        self.is_cancelled = is_cancelled
        self.status = status
