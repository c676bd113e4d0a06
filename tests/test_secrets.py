"""Secrets of the settings appear nowhere: not in logs, output, errors or files, at no level and whatever fails."""

import contextlib
import io
import json
import logging
import shutil
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.cli import main
from pipeline.clients import cached_secrets, secret_provider
from pipeline.errors import PipelineError
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.support.databases import NewDatabase
from tests.support.lambda_functions import ACCOUNT, NOWHERE, USER, Handler
from tests.support.programs import Configure
from tests.support.stores import BUCKET, REGION, local_s3

PASSWORD, WRITTEN = "canary/password%with:signs", "canary%2Fpassword%25with%3Asigns"
WRONG, REFUSED_TOKEN = "canary-that-is-wrong", "canary-token-that-igdb-refuses"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIACANARY",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret",
    "AWS_SESSION_TOKEN": "canary-aws-token",
    "AWS_REGION": REGION,
}
QUICK = {"RETRY_ATTEMPTS": "2", "RETRY_BASE_SECONDS": "0.001", "HTTP_TIMEOUT_SECONDS": "3", "LOG_LEVEL": "DEBUG"}
BAD_DATABASES = (
    f"postgresql://user:{WRITTEN}@127.0.0.1:1/savepoint",
    f"postgresql://user:{WRITTEN}@no.such.host.invalid/savepoint?password={WRITTEN}",
    f"postgresql://user:{PASSWORD}@127.0.0.1:1/savepoint",
    f"postgresql://user:{WRITTEN}@127.0.0.1:{WRITTEN}/savepoint",
    f"user:{WRITTEN}@127.0.0.1",
)
FETCH = {"user_id": USER, "steam_id64": ACCOUNT, "timestamp": "20261123T031749Z"}


class Heard(NamedTuple):
    """A text that somebody could read, and where it stood."""

    where: str
    text: str


class Listener:
    """Runs commands and handlers, and keeps all that they print, log and raise, the libraries' logs included."""

    def __init__(self, sandbox: Sandbox, patch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.heard: list[Heard] = []
        self.ended: set[int | str] = set()
        self._patch = patch

    def command(self, line: str, *faults: Fault, **settings: str) -> str:
        """Run the program; return what it printed on standard output."""
        with self._listening(line, faults, settings) as out:
            self._patch.setattr("sys.argv", ["steam-import", *line.split()])
            try:
                main()
            except SystemExit as ended:
                self.ended.add(int(ended.code or 0))
        return out.getvalue()

    def event(self, handler: Handler, event: Mapping[str, object], *faults: Fault, **settings: str) -> None:
        """Call a Lambda function; print what it returns, or raises, as Lambda does."""
        with self._listening(handler.__module__, faults, settings) as out:
            try:
                answer = handler(dict(event), None)
            except PipelineError as error:
                self.ended.add(error.code)
                out.write("".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)))
            else:
                self.ended.add(str(answer["error_code"]))
                out.write(json.dumps(answer))

    @contextlib.contextmanager
    def _listening(self, name: str, faults: tuple[Fault, ...], settings: Mapping[str, str]) -> Iterator[io.StringIO]:
        out, err = io.StringIO(), io.StringIO()
        library_logs = logging.StreamHandler(err)
        logging.root.addHandler(library_logs)
        for fault in faults:
            self.sandbox.faults.add(fault)
        with self._patch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            for setting, value in settings.items():
                patch.setenv(setting, value)
            yield out
        self.sandbox.faults.clear()
        logging.root.removeHandler(library_logs)
        self.heard += [Heard(f"{name}: stdout", out.getvalue()), Heard(f"{name}: stderr", err.getvalue())]


@pytest.fixture
def listener(
    sandbox: Sandbox, new_database: NewDatabase, configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    """Runs what it is given with canaries for secrets: password authentication is off, so any password will do."""
    url = new_database(2026).replace("postgres:@", f"postgres:{WRITTEN}@")
    levels = {name: logging.getLogger(name).level for name in ("", *logging.root.manager.loggerDict)}
    for library in levels:
        logging.getLogger(library).setLevel(logging.NOTSET if library else logging.DEBUG)
    with local_s3():
        configured(sandbox.environment | QUICK | {"DATABASE_URL": url})
        for name, value in AWS.items():
            monkeypatch.setenv(name, value)
        yield Listener(sandbox, monkeypatch)
    secret_provider.cache_clear()
    cached_secrets.cache_clear()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def import_well(listener: Listener) -> tuple[str, str]:
    """Run all that succeeds; return the locations of a raw and of an enriched CSV."""
    report = json.loads(listener.command(f"run {ACCOUNT} --user {USER} --json"))
    raw, enriched = report["raw"], report["enriched"]
    Path("users.csv").write_text(f"user_id,steam_id64\n{USER},{ACCOUNT}\n", encoding="utf-8")
    for line in (
        f"run {ACCOUNT} --user {USER}",
        f"load {enriched} --dry-run --details",
        "catalogue sync",
        "catalogue show",
        f"review export {enriched} -o sheet.csv",
        "review apply sheet.csv",
        f"report {enriched}",
        "doctor",
        "db check",
        "backfill users.csv --resume run-1",
        "replay run-1 --all",
        "runs --json",
    ):
        listener.command(line)
    listener.event(steam_import.handler, FETCH, S3_BUCKET=BUCKET)
    return raw, enriched


def import_with_secrets_of_aws(listener: Listener) -> None:
    """Run with the ids of secrets in AWS, and with a key pasted where such an id belongs."""
    secrets, keys = boto3.client("secretsmanager", region_name=REGION), listener.sandbox.environment
    arn = str(secrets.create_secret(Name="steam", SecretString=keys["STEAM_API_KEY"])["ARN"])
    listener.event(steam_import.handler, FETCH, S3_BUCKET=BUCKET, STEAM_API_KEY="", STEAM_API_KEY_SECRET_ARN=arn)
    for wrong in (WRONG, f"{arn}-{WRONG[:6]}"):
        unset = {"STEAM_API_KEY": "", "STEAM_API_KEY_SECRET_ARN": wrong}
        listener.event(steam_import.handler, FETCH, S3_BUCKET=BUCKET, **unset)
        listener.command("doctor --json", **unset)


def fail_by_settings(listener: Listener, raw: str, enriched: str) -> None:
    listener.command(f"fetch {ACCOUNT} --steam-api-key {WRONG}")
    listener.command(f"fetch {ACCOUNT}", STEAM_API_KEY=WRONG)
    listener.command(f"fetch {ACCOUNT}", STEAM_API_URL=f"https://user:{WRONG}@steam.example")
    listener.command(f"fetch {ACCOUNT}", RETRY_ATTEMPTS=WRONG)
    listener.event(steam_import.handler, FETCH, S3_BUCKET="no-such-bucket")
    listener.event(steam_import.handler, FETCH, S3_BUCKET=BUCKET, AWS_ENDPOINT_URL_S3=NOWHERE)
    listener.event(steam_import.handler, FETCH, STORE_URL="data", STEAM_API_URL=NOWHERE)
    listener.command(f"enrich {raw}", IGDB_CLIENT_SECRET=WRONG)
    listener.command("catalogue sync", TWITCH_TOKEN_URL=NOWHERE, IGDB_CLIENT_SECRET=WRONG)
    for url in BAD_DATABASES:
        listener.command(f"load {enriched}", DATABASE_URL=url)
        listener.command("doctor --json", DATABASE_URL=url)
        event = {"user_id": USER, "s3_enriched_location": enriched}
        listener.event(database_import.handler, event, STORE_URL="data", DATABASE_URL=url)


def fail_by_answers(listener: Listener, raw: str) -> None:
    """Have the servers quote what they were sent, or break off."""
    key = listener.sandbox.steam.key
    for status in (200, 302, 403, 429, 500):
        quoting = Fault(service="steam", status=status, body=f"key={key}", headers={"Location": f"/?key={key}"})
        listener.event(steam_import.handler, FETCH, quoting, STORE_URL="data")
        quoting = Fault(service="twitch", status=status, body=f'{{"message":"{WRONG} is no secret"}}')
        # Another address is another token.
        url = f"{listener.sandbox.url}/twitch/oauth2/token?{status}"
        listener.command("catalogue sync", quoting, IGDB_CLIENT_SECRET=WRONG, TWITCH_TOKEN_URL=url)
    granting = Fault(service="twitch", status=200, body=f'{{"access_token":"{REFUSED_TOKEN}","expires_in":5000}}')
    refusing = Fault(service="igdb", status=401, body=f'{{"message":"{REFUSED_TOKEN} is no token"}}')
    listener.command(
        "catalogue sync", granting, refusing, TWITCH_TOKEN_URL=f"{listener.sandbox.url}/twitch/oauth2/token?"
    )
    enrich = {"user_id": USER, "s3_location": raw}
    for kind in ("reset", "cut", "html", "not_json"):
        shutil.rmtree("data/catalogue", ignore_errors=True)  # or nobody would be asked
        listener.event(steam_import.handler, FETCH, Fault(kind=kind), STORE_URL="data")
        listener.event(igdb_enrichment.handler, enrich, Fault(kind=kind), STORE_URL="data")


def objects(folder: Path) -> Iterator[Heard]:
    """The files in a folder, and the objects in the bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield Heard(str(path), path.read_text(encoding="utf-8", errors="replace"))
    s3 = boto3.client("s3", region_name=REGION)
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        yield Heard(
            entry["Key"], s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().decode(errors="replace")
        )


def test_no_secret_is_printed_logged_raised_or_written(listener: Listener, tmp_path: Path) -> None:
    raw, enriched = import_well(listener)
    import_with_secrets_of_aws(listener)
    fail_by_settings(listener, raw, enriched)
    fail_by_answers(listener, raw)
    sandbox = listener.sandbox
    tokens = [token for token, _ in sandbox.twitch._expiry_of]  # noqa: SLF001 - nobody else may see them
    secrets = [sandbox.steam.key, sandbox.twitch.client_secret, *tokens, REFUSED_TOKEN, WRONG, PASSWORD, WRITTEN]
    secrets += [AWS["AWS_SECRET_ACCESS_KEY"], AWS["AWS_SESSION_TOKEN"]]
    heard = [*listener.heard, *objects(tmp_path), Heard("settings", repr(Settings.read()) + str(Settings.read()))]
    assert [(secret, where) for where, text in heard for secret in secrets if secret in text] == []
    # Each kind of failure was met, or the silence would prove nothing; and the libraries did log.
    codes = {"None", "bad_steam_key", "steam_unavailable", "steam_bad_answer", "steam_rate_limited", "igdb_unavailable"}
    assert listener.ended >= codes | {0, 1, 2, 75, "configuration", "database_unavailable", "store_unavailable"}
