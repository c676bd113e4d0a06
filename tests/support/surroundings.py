"""How the program ends in surroundings that are not as it needs them: the cases of docs/surroundings.md.

Each has a real test, which ends with `ends_as("the case's name", what it ended with)`, so that the page says what was
seen. To add a case, add its line to the page, and its test.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from handlers.respond import respond
from pipeline.cli import exit_status
from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings
from schemas.events import LoadEvent, LoadResponse
from tests.support.programs import Ended

RETRYABLE = 75


class Case(NamedTuple):
    """One kind of surroundings, and how a command or a stage ends there."""

    what: str
    code: str
    """The error's code; empty where it succeeds, or ends by a sentence without a code."""
    status: int
    words: str
    """The first words of the message: `…` stands for what differs."""
    advice: str
    """What the message says to do; each of `configuration` has some."""


def _cases() -> dict[str, Case]:
    page = (Path(__file__).parents[2] / "docs" / "surroundings.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    return {
        name: Case(what, code.strip("`"), int(status), words, advice)
        for name, what, code, status, words, advice in rows
        if name != "case"
    }


CASES = _cases()
"""All cases, by the name that their tests use."""


def ends_as(name: str, ended: Ended | PipelineError | None) -> None:
    """Check that a process, or an error of ours, ended as the case says; None is a call that ended well."""
    case = CASES[name]
    if ended is None:
        status, lines = 0, []
    elif isinstance(ended, PipelineError):
        status, lines = exit_status(ended), [f"{ended.code}: {ended.message}"]
    else:
        status, lines = ended.status, ended.err.splitlines()
    assert status == case.status, lines
    if case.words:
        first_words = _pattern(f"{case.code}: {case.words}" if case.code else case.words)
        assert [line for line in lines if first_words.match(line)], lines
    assert case.advice or case.code != "configuration", f"{name}: what is there to do?"
    assert _pattern(case.advice).search("\n".join(lines)), lines


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(re.escape(words).replace("…", ".*"))


def handled(name: str, call: Callable[[], object]) -> PipelineError | None:
    """Check that a call, made as the stage of a Lambda function, ends as the case says; return its error.

    Whatever leaves the handler is `Retryable`, the one class that the state machine's retries know, or nothing.
    """
    met: list[PipelineError] = []

    def stage(_settings: Settings, _event: LoadEvent) -> LoadResponse:
        try:
            call()
        except PipelineError as error:
            met.append(error)
            raise
        return LoadResponse(success=True, stats=dict.fromkeys(("imported_games_created", "imported_games_updated"), 0))

    event = {"user_id": "user-1", "s3_enriched_location": "s3://bucket/imports/user-1/x-enriched.csv"}
    with nullcontext() if CASES[name].status != RETRYABLE else pytest.raises(Retryable):
        response = respond(event, LoadEvent, LoadResponse, stage)
        assert response["success"] is (CASES[name].status == 0)
    ends_as(name, met[0] if met else None)
    return met[0] if met else None
