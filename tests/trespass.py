"""Attempts of one user's event, command or key to reach what is another's, or nobody's; each has to be refused."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import boto3
import pytest
import structlog

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.cli import cli
from pipeline.errors import PipelineError
from pipeline.storage.s3 import S3Store
from pipeline.storage.store import DirectoryStore
from tests.support.programs import set_only

if TYPE_CHECKING:
    from tests.support.lambda_functions import Handler

REFUSALS = {"bad_event", "location_refused", "checkpoint_invalid"}
TIME = "20261123T031749Z"
OWN = f"imports/user-1/{TIME}"
BUCKET = "s3://bucket/of/"

USER_IDS: Sequence[object] = (
    *(
        "",
        ".",
        "..",
        "../user-2",
        "user-2/../user-1",
        "user-1/",
        "/user-1",
        "user/1",
        "user%2f1",
        "user\\1",
        "user-1\0",
    ),
    "user-1\n",
    "user-1 ",
    "user.1",
    "*",
    "~",
    "$USER",
    "user-1;rm",
    "u" * 65,
    "us\N{CYRILLIC SMALL LETTER IE}r-1",
    *(
        "\N{FULLWIDTH LATIN SMALL LETTER U}ser-1",
        "user\N{NON-BREAKING HYPHEN}1",
        "user-\N{SUPERSCRIPT ONE}",
        "user-\u0661",
    ),
    "user-1\u202e",
    None,
    1,
    ["user-1"],
    {"user-1": 1},
    True,
)
LOCATIONS = (
    # Another user's, straight and round about.
    f"imports/user-2/{TIME}",
    f"imports/user-1/../user-2/{TIME}",
    f"imports/user-2/../user-1/{TIME}",
    *(
        f"imports/user-1/./{TIME}",
        f"imports//user-1/{TIME}",
        f"./{OWN}",
        f"/{OWN}",
        f"x/../{OWN}",
        f"imports/USER-1/{TIME}",
    ),
    f"imports/user-1/%2e%2e/user-2/{TIME}",
    f"imports/user-1/..%2fuser-2/{TIME}",
    f"imports/user-1%2f{TIME}",
    f"imports/user-1/%252e%252e%252fuser-2/{TIME}",
    f"imports/user-1/..%c0%afuser-2/{TIME}",
    f"imports/user-1/..\\user-2\\{TIME}",
    f"imports\\user-2\\{TIME}",
    f"imports/user-1\\..\\user-2/{TIME}",
    *(
        f"imports/user-1\0/{TIME}",
        f"imports/user-2/\0/../user-1/{TIME}",
        f"imports/user-1\n/{TIME}",
        f"imports/user-1 /{TIME}",
    ),
    *(
        f"imports/user-1/\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/user-2/{TIME}",
        f"imports\N{DIVISION SLASH}user-1/{TIME}",
    ),
    f"imports/user-1/\N{TWO DOT LEADER}/user-2/{TIME}",
    f"imports/us\N{CYRILLIC SMALL LETTER IE}r-1/{TIME}",
    f"imports/user\N{NON-BREAKING HYPHEN}1/{TIME}",
    f"imports/\N{FULLWIDTH LATIN SMALL LETTER U}ser-1/{TIME}",
    # Nobody's.
    *(
        "catalogue/apps.parquet",
        "overrides.csv",
        "backfills/run-1/outcomes",
        f"imports/user-1/sub/{TIME}",
        "imports/user-1/",
    ),
    *(
        f"imports/user-1/-{TIME}",
        f"imports/user-1/..{TIME}",
        f"imports/{TIME}",
        f"exports/user-1/{TIME}",
    ),
)
ELSEWHERE = (
    *(
        f"s3://another-bucket/of/{OWN}",
        f"s3://bucket.evil/of/{OWN}",
        f"s3://bucket@evil/of/{OWN}",
        f"S3://bucket/of/{OWN}",
    ),
    f"s3://bucket/{OWN}",
    f"s3://bucket/off/{OWN}",
    f"s3://bucket/of/../of/{OWN}",
    f"s3:///bucket/of/{OWN}",
    f"https://bucket.s3.amazonaws.com/of/{OWN}",
    f"file:///bucket/of/{OWN}",
    f"arn:aws:s3:::bucket/of/{OWN}",
    f"C:\\bucket\\of\\{OWN}",
    f"\\\\server\\share\\{OWN}",
    f"/etc/{OWN}",
    f"~/{OWN}",
    OWN,
    "",
    "A" * 100_000,
)
KEYS = (
    *(
        "../outside",
        "imports/../../outside",
        "/etc/passwd",
        "//outside",
        "..",
        "imports/..",
        "a\0b",
        "..\\outside",
        "a\nb",
    ),
    "imports/\ud800",
    "C:\\outside",
    "imports/./../../outside",
)
LINKED = ("link/outside", "link/new", f"{OWN}-raw.csv", f"{OWN}-raw.json", f"imports/user-3/{TIME}-raw.csv")
TIMES = (
    "../user-2",
    "20261123T031749Z/../x",
    "2026-11-23T03:17:49Z\0",
    "%2e%2e",
    "now",
    "\N{FULLWIDTH DIGIT TWO}0261123T031749Z",
)


class Attempt(NamedTuple):
    """What is tried, by what way."""

    name: str
    make: Callable[[], object]


class Wire(NamedTuple):
    """A place where every address leads, and which no attempt may reach."""

    listener: socket.socket

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def is_touched(self) -> bool:
        """Whether anybody has called."""
        with suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return True
        return False


@contextmanager
def trespassing(folder: Path) -> Iterator[tuple[list[Attempt], Wire]]:
    """All attempts, in a deployment whose every address is a tripwire, and with a directory that links lead out of."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        listener.settimeout(0)
        wire = Wire(listener)
        set_only(patch, _settings(wire.address))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.chdir(folder)
        _lay_out(folder)
        yield [*_by_handlers(), *_by_commands(folder), *_by_keys(folder, wire.address)], wire
        structlog.reset_defaults()


def refusal(attempt: Attempt) -> str:
    """The code by which an attempt was refused; empty if it was not."""
    try:
        answered = attempt.make()
    except PipelineError as error:
        return error.code
    return str(answered.get("error_code") or "") if isinstance(answered, dict) else ""


def _settings(address: str) -> dict[str, str]:
    here = f"http://{address}"
    apis = dict.fromkeys(("STEAM_API_URL", "STEAM_STORE_API_URL", "IGDB_API_URL", "TWITCH_TOKEN_URL"), here)
    secrets = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "DATABASE_URL")
    keys = {f"{name}_SECRET_ARN": "arn:aws:ssm:eu-central-1:123456789012:parameter/x" for name in secrets}
    quick = {"RETRY_ATTEMPTS": "1", "HTTP_TIMEOUT_SECONDS": "1", "LOG_LEVEL": "CRITICAL"}
    bucket = {"STORE_URL": BUCKET, "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": here}
    return apis | keys | quick | bucket


def _lay_out(folder: Path) -> None:
    for name in ("store/imports/user-2", "outside"):
        (folder / name).mkdir(parents=True)
    (folder / "outside" / "outside").write_text("another's", encoding="utf-8")
    for name in ("link", "imports/user-1"):
        (folder / "store" / name).symlink_to(folder / "outside")
    (folder / "store" / "imports" / "user-3").symlink_to("user-2")
    (folder / "store" / ".locked.lock").symlink_to(folder / "outside" / "outside")


def _by_handlers() -> Iterator[Attempt]:
    ways: list[tuple[Handler, str, str]] = [
        (igdb_enrichment.handler, "s3_location", "raw"),
        (database_import.handler, "s3_enriched_location", "enriched"),
    ]
    own: dict[str, object] = {key: f"{BUCKET}{OWN}-{stage}.csv" for _, key, stage in ways}
    for handler, key, stage in ways:
        for place in [*(BUCKET + place for place in LOCATIONS), *ELSEWHERE]:
            event = own | {"user_id": "user-1", key: f"{place}-{stage}.csv"}
            yield Attempt(f"handler, {stage}: {place[:80]!r}", partial(handler, event, None))
    own["steam_id64"] = "76561197960287930"
    users: list[dict[str, object]] = [{"user_id": user} for user in USER_IDS]
    times: list[dict[str, object]] = [{"user_id": "user-1", "timestamp": time} for time in TIMES]
    for handler in (steam_import.handler, *(handler for handler, *_ in ways)):
        for change in users + times:
            yield Attempt(f"{handler.__module__}: {change}", partial(handler, own | change, None))


def _by_commands(folder: Path) -> Iterator[Attempt]:
    users = [user for user in USER_IDS if isinstance(user, str)]
    lines = [
        *([command, "76561197960287930", "--user", user] for user in users for command in ("fetch", "run")),
        *(["enrich", "--", f"{place}-raw.csv"] for place in ELSEWHERE),
        *(["load", "--", f"{place}-enriched.csv"] for place in ELSEWHERE),
    ]
    for line in lines:
        if "\0" not in line[-1]:  # which no command line can hold
            whole = [line[0], "--store-url", str(folder / "store"), *line[1:]]
            yield Attempt(f"command: {str(line)[:80]}", partial(cli, whole, standalone_mode=False))


def _by_keys(folder: Path, address: str) -> Iterator[Attempt]:
    client = boto3.client("s3", region_name="eu-central-1", endpoint_url=f"http://{address}")
    directory, bucket = DirectoryStore(folder / "store"), S3Store(client, "bucket", "of")
    # A link leads out of a directory only; what an object's key begins with is all that it is.
    keys = [(directory, key) for key in (*KEYS, *LINKED)] + [(bucket, key) for key in KEYS]
    for store, key in keys:
        name = f"{type(store).__name__} {{}}: {key!r}".format
        yield Attempt(name("read"), partial(store.read, key))
        yield Attempt(name("write"), partial(store.write, key, b"ours"))
        yield Attempt(name("replace"), partial(store.replace, key, b"ours", None))
        yield Attempt(name("delete"), partial(store.delete, key))
        yield Attempt(name("list"), partial(store.list, key))
    yield Attempt("replace over a linked lock", partial(directory.replace, "locked", b"ours", None))
