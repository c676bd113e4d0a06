"""How the program ends in surroundings that are not as it needs them: a table of cases, each with a real test.

Each test ends with `ends_as("the case's name", what it ended with)`, so that the table, which
`python -m tests.support.documents` writes into docs/surroundings.md, says what was seen. To add a case, add its line
here and its test, and write the page.
"""

import re
from typing import Literal, NamedTuple

from pipeline.cli import exit_status
from pipeline.errors import PipelineError
from tests.support.programs import Ended

Group = Literal["database", "network", "S3", "machine"]


class Case(NamedTuple):
    """One kind of surroundings, and how a command or a stage ends there."""

    group: Group
    what: str
    status: int
    code: str = ""
    """The error's code; empty where it succeeds, or ends by a sentence without a code."""
    words: str = ""
    """The first words of the message, as a pattern of `re`: `…` stands for what differs."""

    @property
    def pattern(self) -> str:
        return re.escape(f"{self.code}: {self.words}" if self.code else self.words).replace("…", ".*")


CASES = {
    "folder with a space": Case("machine", "a folder called `my projects`", 0),
    "folder with quotes and $": Case("machine", "a folder called `it's $HOME`", 0),
    "folder with = and %": Case("machine", "a folder called `a=b%c`", 0),
    "folder of 200 characters": Case("machine", "a folder whose path has 200 characters", 0),
    "unknown locale": Case("machine", "`LANG` names a locale that is not installed", 0),
    "PG variables": Case(
        "database",
        "`PGHOSTADDR`, `PGPORT`, `PGSERVICE` … lead elsewhere; the embedded database is used, nothing arrives there",
        0,
    ),
    "two users of a machine": Case("machine", "two users of one machine run it at once", 0),
    "stale pid": Case(
        "machine", "a `postmaster.pid` left by a crash has the pid of a live process, which is left alone", 0
    ),
    "stale pid of the wheel": Case("machine", "the list of pids that older versions kept names a live process", 0),
    "stale pid of a socket": Case("machine", "the lock of a socket left by a crash has the pid of a live process", 0),
    "pid file without a pid": Case("machine", "an empty `postmaster.pid`, as after a full disk", 0),
    "embedded elsewhere in use": Case(
        "machine",
        "the embedded database's folder is in use by another container",
        2,
        "configuration",
        "… is in use by a process of another container or machine",
    ),
    "embedded folder of others": Case(
        "machine",
        "files of others in the embedded database's folder",
        2,
        "configuration",
        "The embedded database cannot be started in …: [Errno 39] Directory not empty",
    ),
    "embedded corrupt": Case(
        "machine",
        "files of the embedded database are missing",
        2,
        "configuration",
        "The embedded database cannot be started in …: PostgreSQL says: ",
    ),
    "embedded disk full": Case(
        "machine",
        "no space for the embedded database",
        75,
        "database_unavailable",
        "No space left on device for the embedded database in …",
    ),
    "output lacks a letter": Case("machine", "the terminal's encoding (Latin-1, cp1252) lacks a letter of a name", 0),
    "unreadable .env": Case(
        "machine",
        "a `.env` that may not be read",
        2,
        "configuration",
        "The file .env cannot be read: Permission denied.",
    ),
    "unknown home": Case(
        "machine",
        "`~name` of a user who is not there, as `STORE_URL` or a file",
        2,
        "configuration",
        "~nosuchuser/…: this machine knows no such home.",
    ),
    "folder is gone": Case(
        "machine", "the current folder was deleted", 2, "configuration", "…: the current folder is gone."
    ),
    "early Ctrl-C": Case("machine", "Ctrl-C in the first second", 130, words="Interrupted. "),
    "output disk full": Case(
        "machine",
        "no space for what `>` writes",
        75,
        words="The output cannot be written: No space left on device. Every file that was written is complete.",
    ),
    "Windows": Case("machine", "Windows without WSL", 2, "configuration", "steam-import runs on Linux and macOS."),
    "rounded ids": Case(
        "machine",
        "a list of users whose SteamID64s a spreadsheet has rounded",
        2,
        "bad_event",
        "All … SteamID64s of the list end in 00: a spreadsheet has rounded them",
    ),
}
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
        assert [line for line in lines if re.match(case.pattern, line)], lines


def surroundings_table() -> str:
    """The cases of each group as a table, under a heading."""
    parts = []
    for group in ("database", "network", "S3", "machine"):
        rows = [
            f"| {case.what} | {f'`{case.code}`' if case.code else ''} | {case.status} | {case.words.strip()} |"
            for case in CASES.values()
            if case.group == group
        ]
        if rows:
            title = group if group == "S3" else group.capitalize()
            parts.append(
                "\n".join(
                    [f"## {title}", "", "| what | code | exit status | first words |", "|---|---|---|---|", *rows]
                )
            )
    return "\n\n".join(parts)
