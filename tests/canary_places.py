"""Where else a canary could come out: secrets in AWS, servers that quote, a notebook, a bug, a demo."""

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import boto3
import structlog

from handlers import igdb_enrichment, steam_import
from handlers.respond import respond
from pipeline import list_runs, read_enriched, read_raw
from pipeline.clients import open_database, open_steam, secret_provider, secrets_read
from pipeline.sandbox.faults import Fault
from pipeline.settings import Settings
from schemas.events import FetchEvent, FetchResponse
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.stores import BUCKET, REGION

if TYPE_CHECKING:
    from tests.canaries import Run

AWKWARD = 'canary/wrong+"too"'
FORMS = [AWKWARD, quote(AWKWARD), quote_plus(AWKWARD), json.dumps(AWKWARD)[1:-1]]
PASTED = "canary-pasted-for-an-arn"

log = structlog.get_logger()


def run_everywhere(run: "Run", url: str) -> None:
    """With the canaries of `run`, in whose folder an import was made."""
    _with_secrets_in_aws(run, url)
    _with_servers_that_quote(run)
    for log_format in ("json", "console"):
        run.event(notebook, {}, LOG_FORMAT=log_format)
        run.event(stumble, {"user_id": USER, "steam_id64": ACCOUNT}, STORE_URL="data", LOG_FORMAT=log_format)
    for password in (AWKWARD, PASTED):
        for before in ("", "20"):
            bad = f"postgresql://user:{before}/{password}@127.0.0.1?sslmode=require"
            run.command("db", "check", DATABASE_URL=bad)
            run.command("doctor", "--json", DATABASE_URL=bad)
    run.command("demo")
    assert run.ended[-1] == 0


def _with_secrets_in_aws(run: "Run", url: str) -> None:
    keys = run.sandbox.environment | {"DATABASE_URL": url}
    names = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "DATABASE_URL")
    secrets = boto3.client("secretsmanager", region_name=REGION)
    arns = {
        f"{name}_SECRET_ARN": str(secrets.create_secret(Name=name, SecretString=keys[name])["ARN"]) for name in names
    }
    unset = dict.fromkeys(names, "")
    fetch, enrich = {"user_id": USER, "steam_id64": ACCOUNT}, {"user_id": USER, "s3_location": _made("raw")}
    run.command("run", ACCOUNT, "--user", USER, "--json", **unset, **arns)
    run.command("doctor", **unset, **arns)
    run.event(igdb_enrichment.handler, enrich, STORE_URL="data", **unset, **arns)
    assert run.ended[-3:] == [0, 0, "answered"]
    run.event(steam_import.handler, fetch, S3_BUCKET=BUCKET, **unset, **arns)
    for wrong in (PASTED, f"{arns['STEAM_API_KEY_SECRET_ARN']}-{PASTED[:6]}"):
        run.event(steam_import.handler, fetch, S3_BUCKET=BUCKET, **unset, STEAM_API_KEY_SECRET_ARN=wrong)
        run.command("doctor", "--json", **unset, STEAM_API_KEY_SECRET_ARN=wrong)
    secret_provider.cache_clear()
    secrets_read.cache_clear()


def _with_servers_that_quote(run: "Run") -> None:
    for status in (302, 307, 400, 401, 500):
        for form in FORMS:
            run.sandbox.faults.add(Fault(service="twitch", status=status, body=json.dumps({"message": f"{form}!"})))
            run.sandbox.faults.add(Fault(service="twitch", status=status, body=f"See /?client_secret={form}"))
            run.command("catalogue", "sync", IGDB_CLIENT_SECRET=AWKWARD)
    for number, status in enumerate((302, 307)):
        granted = json.dumps({"access_token": AWKWARD, "expires_in": 5000})
        run.sandbox.faults.add(Fault(service="twitch", body=granted, status=200))
        run.sandbox.faults.add(Fault(service="igdb", status=status, body=f"Bearer {AWKWARD}"))
        # Another address is another token.
        run.command("catalogue", "sync", TWITCH_TOKEN_URL=f"{run.sandbox.url}/twitch/oauth2/token?{number}")


def notebook(_event: object, _context: object) -> dict[str, str]:
    """What an analyst looks at."""
    return {"shown": f"{read_raw(_made('raw'))} {read_enriched(_made('enriched'))} {list_runs('data')}"}


def stumble(event: object, context: object) -> dict[str, str]:
    """What Lambda prints of a bug."""
    try:
        respond(event, FetchEvent, FetchResponse, _stumble, context)
    except ZeroDivisionError:
        return {"printed": traceback.format_exc()}
    raise AssertionError("there is a bug")


def _stumble(settings: Settings, _event: FetchEvent) -> FetchResponse:
    opened = open_steam(settings), open_database(settings)
    try:
        return FetchResponse(success=len(opened) / 0 > 1)
    except ZeroDivisionError:
        log.exception("bug", opened=opened, settings=settings)
        raise


def _made(stage: str) -> str:
    return str(next(Path("data", "imports", USER).glob(f"*-{stage}.csv")).absolute())
