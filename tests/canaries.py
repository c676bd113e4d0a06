"""Everything run with canaries for secrets, failures included, and all that it says and leaves searched for them."""

import contextlib
import io
import json
import logging
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest
import structlog

from handlers import database_import, igdb, steam_import
from pipeline.cli import main
from pipeline.clients import open_database
from pipeline.errors import PipelineError
from pipeline.sandbox.embedded import create_tables, serve_postgres
from pipeline.sandbox.faults import Fault, Kind
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from pipeline.storage.keys import LAST_LOADED
from tests.canary_places import FORMS, PASTED, run_everywhere
from tests.support.lambda_functions import ACCOUNT, NOWHERE, USER, small_world
from tests.support.programs import set_only
from tests.support.stores import BUCKET, local_s3

PASSWORD = "canary/password%with:signs"
WRITTEN = "canary%2Fpassword%25with%3Asigns"
BAD_URLS = (
    f"postgresql://user:{WRITTEN}@127.0.0.1:1/savepoint",
    f"postgresql://user:{WRITTEN}@no.such.host.invalid/savepoint?password={WRITTEN}",
    f"postgresql://user:{PASSWORD}@127.0.0.1:1/savepoint",
    f"user:{WRITTEN}@127.0.0.1",
    f"postgresql://user:{WRITTEN}@127.0.0.1:{WRITTEN}/savepoint",
    f"postgresql://127.0.0.1:{WRITTEN}/savepoint",
)
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIACANARY",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret",
    "AWS_SESSION_TOKEN": "canary-aws-token",
}
WRONG = "canary-that-is-wrong"
SPOILT_TOKEN = "canary-token-that-igdb-refuses"
KINDS: tuple[Kind, ...] = ("reset", "cut", "html", "not_json")
QUICK = {"RETRY_ATTEMPTS": "2", "RETRY_BASE_SECONDS": "0.001", "HTTP_TIMEOUT_SECONDS": "3"}


class Heard(NamedTuple):
    """A text that somebody could read, and where it stood."""

    where: str
    text: str


class Leak(NamedTuple):
    """A canary, and where it was found."""

    canary: str
    where: str


class Run:
    """Commands and events in one deployment; keeps all that they say."""

    def __init__(self, sandbox: Sandbox, patch: pytest.MonkeyPatch, folder: Path, level: str) -> None:
        self.sandbox = sandbox
        self.heard: list[Heard] = []
        self.ended: list[int | str] = []
        self._patch = patch
        self._folder = folder
        self._level = level

    def command(self, *line: str, **settings: str) -> str:
        """Run the program; its standard output."""
        with self._saying(" ".join(line), settings) as out:
            self._patch.setattr("sys.argv", ["steam-import", *line])
            try:
                main()
            except SystemExit as ended:
                self.ended.append(int(ended.code or 0))
        return out.getvalue()

    def event(self, handler: Callable[[object, object], object], event: Mapping[str, object], **settings: str) -> None:
        """Invoke a Lambda function; what it raises is printed as Lambda does, and shown by its `repr`."""
        with self._saying(handler.__module__, settings) as out:
            try:
                answer = handler(dict(event), None)
            except PipelineError as error:
                self.ended.append(error.code)
                out.write("".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)))
            else:
                self.ended.append("answered")
                out.write(json.dumps(answer))

    @contextlib.contextmanager
    def _saying(self, name: str, settings: Mapping[str, str]) -> Iterator[io.StringIO]:
        out, err = io.StringIO(), io.StringIO()
        with self._patch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            for setting, value in {"LOG_LEVEL": self._level, **settings}.items():
                patch.setenv(setting, value)
            for library in ("", *logging.root.manager.loggerDict):
                logging.getLogger(library).setLevel(logging.NOTSET if library else 1)
            handler = logging.StreamHandler(err)
            logging.root.addHandler(handler)
            try:
                yield out
            finally:
                logging.root.removeHandler(handler)
                self.sandbox.faults.clear()
        self.heard += [Heard(f"{name}: stdout", out.getvalue()), Heard(f"{name}: stderr", err.getvalue())]


def leaks(folder: Path, level: str = "DEBUG") -> tuple[list[Leak], Run]:
    """What of the canaries can be read after all commands and events, good and bad, at a level of the log."""
    with Sandbox(small_world(), limits=False) as sandbox, local_s3(), serve_postgres(folder / "postgres") as server:
        create_tables(server)
        # Password authentication is off there, so any password will do.
        url = server.replace("postgres:@", f"postgres:{WRITTEN}@")
        with pytest.MonkeyPatch.context() as patch:
            set_only(patch, sandbox.environment | QUICK | AWS | {"DATABASE_URL": url, "AWS_REGION": "eu-central-1"})
            patch.chdir(folder)
            run = Run(sandbox, patch, folder, level)
            open_database(Settings.read()).ensure_users([USER])
            try:
                _everything(run, url)
            finally:
                structlog.reset_defaults()
                logging.disable(logging.NOTSET)
            tokens = [token for token, _ in sandbox.twitch._expiry_of]  # noqa: SLF001 - nobody else may see them
            secrets = [sandbox.steam.key, sandbox.twitch.client_secret, SPOILT_TOKEN, WRONG, PASSWORD, WRITTEN, *tokens]
            secrets += [AWS["AWS_SECRET_ACCESS_KEY"], AWS["AWS_SESSION_TOKEN"], *FORMS, PASTED]
            heard = [*run.heard, *_objects(folder), Heard("settings", repr(Settings.read()) + str(Settings.read()))]
    return [Leak(secret, where) for where, text in heard for secret in secrets if secret in text], run


def _everything(run: Run, url: str) -> None:
    report = json.loads(run.command("run", ACCOUNT, "--user", USER, "--json"))
    raw, enriched = report["raw"], report["enriched"]
    for line in (
        ["run", ACCOUNT, "--user", USER],
        ["fetch", ACCOUNT, "--user", USER, "--json"],
        ["enrich", raw, "--json"],
        ["load", enriched, "--dry-run", "--details"],
        ["load", enriched, "--json"],
        ["catalogue", "sync"],
        ["catalogue", "sync", "--json"],
        ["catalogue", "compact"],
        ["catalogue", "compact", "--json"],
        ["catalogue", "show"],
        ["catalogue", "show", "--json"],
        ["review", "export", enriched, "-o", "sheet.csv"],
        ["review", "export", enriched, "-o", "sheet.csv", "--json"],
        ["review", "apply", "sheet.csv"],
        ["review", "apply", "sheet.csv", "--json"],
        ["report", enriched],
        ["report", enriched, "-o", "page.html", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["db", "check"],
        ["db", "grants", "postgres"],
        ["no-such-command", WRONG[:6]],
    ):
        run.command(*line)
    bad_urls = [*BAD_URLS, url.replace("/postgres?", "/no_such_database?")]
    _with_bad_settings(run, raw, enriched, bad_urls)
    _with_bad_answers(run)
    _with_backfills(run, bad_urls)
    _with_s3(run)
    run_everywhere(run, url)


def _with_bad_settings(run: Run, raw: str, enriched: str, bad_urls: Sequence[str]) -> None:
    fetch, enrich, load = ("fetch", ACCOUNT, "--json"), ("enrich", raw), ("load", enriched)
    run.command(*fetch, STEAM_API_KEY=WRONG)
    run.command(*fetch, "--steam-api-key", WRONG)
    run.command(*fetch, STEAM_API_URL=NOWHERE)
    run.command(*fetch, RETRY_ATTEMPTS=WRONG)
    run.command(*fetch, STEAM_API_URL=f"https://user:{WRONG}@steam.example")
    run.command(*enrich, IGDB_CLIENT_SECRET=WRONG)
    run.command(*enrich, IGDB_CLIENT_ID="no such id", IGDB_CLIENT_SECRET=WRONG)
    run.command("catalogue", "sync", IGDB_API_URL=NOWHERE)
    run.command("catalogue", "sync", TWITCH_TOKEN_URL=NOWHERE, IGDB_CLIENT_SECRET=WRONG)
    for wrong in ({"STEAM_API_KEY": WRONG}, {"IGDB_CLIENT_SECRET": WRONG}, {"STEAM_API_URL": NOWHERE}):
        run.command("doctor", "--json", **wrong)
    for bad in bad_urls:
        run.command(*load, DATABASE_URL=bad)
        run.command("db", "check", DATABASE_URL=bad)
        run.command("doctor", "--json", DATABASE_URL=bad)
        run.event(
            database_import.handler,
            {"user_id": USER, "s3_enriched_location": enriched},
            DATABASE_URL=bad,
            STORE_URL="data",
        )


def _with_bad_answers(run: Run) -> None:
    """Servers that quote what they were sent."""
    key = run.sandbox.steam.key
    fetch = {"user_id": USER, "steam_id64": ACCOUNT}
    for status, body in (
        (500, f"key={key}"),
        (403, f"<h1>key={key}</h1>"),
        (403, key),
        (302, key),
        (200, key),
        (429, key),
    ):
        fault = Fault(service="steam", status=status, body=body, headers={"Location": f"/?key={key}"})
        run.sandbox.faults.add(fault)
        run.event(steam_import.handler, fetch, STORE_URL="data")
    for status in (400, 401, 403, 429, 500, 200):
        run.sandbox.faults.add(Fault(service="twitch", status=status, body=f'{{"message":"{WRONG} is no secret"}}'))
        run.command("catalogue", "sync", IGDB_CLIENT_SECRET=WRONG)
    run.sandbox.faults.add(
        Fault(service="twitch", body=f'{{"access_token":"{SPOILT_TOKEN}","expires_in":5000}}', status=200)
    )
    run.sandbox.faults.add(Fault(service="igdb", status=401, body=f'{{"message":"{SPOILT_TOKEN} is no token"}}'))
    # Another address is another token.
    run.command("catalogue", "sync", TWITCH_TOKEN_URL=f"{run.sandbox.url}/twitch/oauth2/token?")
    for kind in KINDS:
        run.sandbox.faults.add(Fault(kind=kind))
        run.event(steam_import.handler, fetch, STORE_URL="data")
        run.sandbox.faults.add(Fault(kind=kind))
        run.command("catalogue", "sync")


def _with_backfills(run: Run, bad_urls: Sequence[str]) -> None:
    """A whole one and its replay, and others that fail in each of their steps, by commands and by events."""
    place = Path("data", "users.csv").absolute()
    place.write_text(f"user_id,steam_id64\n{USER},{ACCOUNT}\nuser-2,{World.UNKNOWN_ACCOUNT}\n../,1\n", encoding="utf-8")
    backfill = ("backfill", str(place), "--resume")
    for line in (
        [*backfill, "whole", "--dry-run", "--json"],
        [*backfill, "whole", "--json"],
        [*backfill, "whole"],
        ["replay", "whole", "--all", "--json"],
        ["replay", "whole"],
        ["backfill", "--resume", WRONG[:6]],
        ["runs"],
        ["runs", "--json"],
    ):
        run.command(*line)
    plan = {"step": "plan", "users": str(place)}
    run.event(igdb.handler, plan | {"run_id": "events"}, STORE_URL="data")
    for step in ("fetch", "catalogue", "enrich", "load", "report"):
        run.event(igdb.handler, {"step": step, "run_id": "events", "shard": 0}, STORE_URL="data")
    for number, (step, wrong, faults) in enumerate(_misfortunes(run, bad_urls)):
        for run_id in (f"command-{number}", f"event-{number}"):
            # Or nobody would be asked, and nothing loaded.
            shutil.rmtree("data/catalogue", ignore_errors=True)
            Path("data", LAST_LOADED).unlink(missing_ok=True)
            before = ("plan", "fetch", "catalogue", "enrich")
            for good in before[: before.index(step)] if step in before else before:
                run.event(igdb.handler, plan | {"step": good, "run_id": run_id, "shard": 0}, STORE_URL="data")
            for fault in faults:
                run.sandbox.faults.add(fault)
            if run_id.startswith("command"):
                run.command(*backfill, run_id, "--json", **wrong)
            else:
                run.event(igdb.handler, {"step": step, "run_id": run_id, "shard": 0}, STORE_URL="data", **wrong)
    run.command("runs", "--json")


def _misfortunes(run: Run, bad_urls: Sequence[str]) -> Iterator[tuple[str, dict[str, str], list[Fault]]]:
    """What goes wrong in a step: settings, or servers that quote what they were sent."""
    yield "fetch", {"STEAM_API_KEY": WRONG}, []
    yield "fetch", {"STEAM_API_URL": NOWHERE}, []
    for status in (200, 302, 403, 429, 500):
        yield "fetch", {}, [Fault(service="steam", status=status, body=f"key={run.sandbox.steam.key}")]
    yield "catalogue", {"IGDB_CLIENT_SECRET": WRONG}, []
    yield "catalogue", {"IGDB_API_URL": NOWHERE}, []
    quoted = Fault(service="twitch", status=500, body=f'{{"message":"{WRONG} is no secret"}}')
    yield "catalogue", {"IGDB_CLIENT_SECRET": WRONG}, [quoted]
    for bad in bad_urls:
        yield "load", {"DATABASE_URL": bad}, []


def _with_s3(run: Run) -> None:
    fetch = {"user_id": USER, "steam_id64": ACCOUNT}
    run.event(steam_import.handler, fetch, S3_BUCKET=BUCKET)
    run.event(steam_import.handler, fetch, S3_BUCKET="no-such-bucket")
    run.event(steam_import.handler, fetch, S3_BUCKET=BUCKET, AWS_ENDPOINT_URL_S3=NOWHERE)
    run.event(steam_import.handler, fetch, S3_BUCKET=BUCKET, AWS_ENDPOINT_URL_S3="http://s3.example")
    for bucket in (BUCKET, "no-such-bucket"):
        for step in ("plan", "fetch", "catalogue"):
            run.event(igdb.handler, {"step": step, "run_id": "run-1", "shard": 0}, S3_BUCKET=bucket)
    run.command("catalogue", "show", S3_BUCKET=BUCKET)
    client = boto3.client("s3", region_name="eu-central-1")
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        body = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        run.heard.append(Heard(f"s3: {entry['Key']}", body.decode(errors="replace")))


def _objects(folder: Path) -> Iterator[Heard]:
    for path in folder.rglob("*"):
        if path.is_file() and "postgres" not in path.parts:
            yield Heard(str(path), path.read_bytes().decode(errors="replace"))
