"""All errors that callers are meant to catch, in one tree, and the words that messages count with.

The codes of errors are `schemas.events.ErrorCode`.

PipelineError
├── Refused    the event, the Steam id, the settings or the credentials are wrong and have to be fixed (exit status 2)
├── Failed     the answer is final: a private library, an invalid checkpoint, …                        (exit status 1)
└── Retryable  the same call may succeed later; handlers raise it, and Step Functions retry it         (exit status 75)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # else an error would import pydantic, and `steam-import --help` with it
    from schemas.events import ErrorCode


class PipelineError(Exception):
    """An error with a code for programs, and a message for people: what is wrong, where, and what to do next."""

    retryable = False
    is_cancelled = False

    def __init__(self, code: "ErrorCode", message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: ErrorCode = code
        self.message = message

    def __reduce__(self) -> tuple[type["PipelineError"], tuple["ErrorCode", str]]:
        """Return the class and arguments from which pickle makes the same error in another process."""
        return type(self), (self.code, self.message)


class Refused(PipelineError):
    """A final error that the caller can fix in the event, the Steam id, the settings or the credentials."""


class Failed(PipelineError):
    """A final error that neither a retry nor other settings fix: an answer or a file that a stage cannot use.

    `is_about_rows`: it is about some of the rows of one file, so that others may be loaded all the same.
    """

    def __init__(self, code: "ErrorCode", message: str, *, is_about_rows: bool = False) -> None:
        super().__init__(code, message)
        self.is_about_rows = is_about_rows


class Retryable(PipelineError):
    """An error that may pass by itself: the same call may succeed later, although all its own retries failed."""

    retryable = True

    def __init__(
        self,
        code: "ErrorCode",
        message: str,
        *,
        retry_after: float | None = None,
        is_too_large: bool = False,
        is_cancelled: bool = False,
        status: int | None = None,
    ) -> None:
        """Keep facts about the failure, for the retry policy that decides whether to repeat the call.

        Args:
            code: The error's code.
            message: What is wrong, where, and what to do next.
            retry_after: Seconds that the server asks to wait.
            is_too_large: Whether a smaller request may succeed.
            is_cancelled: Whether a person stopped the call, which should not be repeated then.
            status: The HTTP status of the answer, if there was one.
        """
        super().__init__(code, message)
        self.retry_after = retry_after
        self.is_too_large = is_too_large
        self.is_cancelled = is_cancelled
        self.status = status


def agree(number: float, singular: str, plural: str = "") -> str:
    """Return the form of a word that agrees with a number; the plural is the singular with an s unless given."""
    return singular if number == 1 else plural or f"{singular}s"


def count_of(number: float, singular: str, plural: str = "") -> str:
    """Return a number with the words that it counts, such as "1 game" or "2,000 games"."""
    return f"{number:,} {agree(number, singular, plural)}"
