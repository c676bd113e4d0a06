"""Backfills by the command line, each with a store and a database of its own, and what is the same of any two."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backfill.report import OUTCOMES_CSV, REJECTED_CSV, REPORT
from pipeline.database.database import Database
from pipeline.sandbox.server import Sandbox
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import DirectoryStore
from tests.support.interruptions import CONTENT, rows
from tests.support.programs import PROGRAM, environment

RUN_ID = "crowd"
FAST = {"STEAM_REQUESTS_PER_SECOND": "1000", "LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Place:
    """A folder and a database for the backfill of one list; whoever starts the program there works on the same."""

    sandbox: Sandbox
    folder: Path
    database_url: str

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    @contextmanager
    def started(self, shard_size: int, **settings: str) -> Iterator["subprocess.Popen[str]"]:
        """The program, always by the same command."""
        here = {"STORE_URL": str(self.folder), "DATABASE_URL": self.database_url}
        with subprocess.Popen(  # noqa: S603 - our own program
            [PROGRAM, "backfill", "users.csv", "--resume", RUN_ID, "--shard-size", str(shard_size)],
            cwd=self.folder,
            env=environment(self.sandbox, **(here | FAST | settings)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            yield process

    def to_the_end(self, shard_size: int, **settings: str) -> None:
        with self.started(shard_size, **settings) as process:
            said, _ = process.communicate()
        assert process.returncode == 0, said

    def read(self, name: str) -> bytes:
        body = self.store.read(backfill_key(RUN_ID, name))
        assert body is not None
        return body

    def outcomes(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.read(OUTCOMES_CSV).decode())))

    def report(self) -> dict[str, Any]:
        """But for what depends on how it went."""
        report: dict[str, Any] = json.loads(self.read(REPORT))
        return {name: value for name, value in report.items() if name not in {"effort", "written"}}

    def end_state(self) -> tuple[object, ...]:
        """All that has to be the same however the backfill went."""
        content = rows(self.database_url, CONTENT)
        return self.report(), self.read(OUTCOMES_CSV), self.read(REJECTED_CSV), content


def place(sandbox: Sandbox, folder: Path, database_url: str, users: bytes) -> Place:
    """An empty place; the database has the users of the list."""
    folder.mkdir()
    (folder / "users.csv").write_bytes(users)
    Database(database_url).ensure_users([line.split(",")[0] for line in users.decode().splitlines()[1:]])
    return Place(sandbox, folder, database_url)
