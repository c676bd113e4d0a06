"""Every error code, provoked from the shell: its exit status, its next step, and its page in the docs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.steam import BLOCKED
from schemas.events import ErrorCode
from tests.support.databases import url_of
from tests.support.documents import ROOT
from tests.support.lambda_functions import ACCOUNT, NOWHERE, RAW_CSV, USER, enriched_csv
from tests.support.programs import SteamImport

PAGE = ROOT / "docs" / "errors.md"
RAW = f"data/imports/{USER}/20261123T031749Z-raw.csv"
ENRICHED = RAW.replace("-raw", "-enriched")
NO_DATABASE = "postgresql://u@127.0.0.1:1/x"

Arrange = Callable[[Sandbox], object]


class Case(NamedTuple):
    """A call that fails, what is arranged before it, the exit status, and words of the next step it must name."""

    call: str
    status: int
    next_step: str
    arrange: Arrange = lambda _: None


def fault(**what: object) -> Arrange:
    return lambda sandbox: sandbox.faults.add(Fault(**what))  # type: ignore[arg-type]


def hide(sandbox: Sandbox) -> None:
    sandbox.world.accounts[ACCOUNT].hidden = True


def spoil(_sandbox: Sandbox) -> None:
    Path(RAW).write_text(RAW_CSV.replace(",90,", ",long,"))


FETCH = f"fetch {ACCOUNT}"
CASES: dict[str, Case] = {
    "bad_event": Case(f"{FETCH} --user ../x", 2, "Give another: a user id has"),
    "bad_steam_id": Case("fetch 10000000000000000", 2, "Give a SteamID64"),
    "configuration": Case(f"{FETCH} --store-url ftp://host", 2, "give a directory, or s3://bucket/prefix"),
    "bad_steam_key": Case(f"{FETCH} --steam-api-key wrong", 2, "https://steamcommunity.com/dev/apikey"),
    "bad_igdb_credentials": Case(f"enrich {RAW} --igdb-client-secret wrong", 2, "https://dev.twitch.tv/console/apps"),
    "private_library": Case(FETCH, 1, "https://steamcommunity.com/my/edit/settings", hide),
    "account_not_found": Case("fetch nobody-has-this", 1, "Check its spelling"),
    "steam_blocked": Case(FETCH, 1, "Wait a day", fault(service="steam", status=403, body=BLOCKED)),
    "location_refused": Case("enrich /etc/passwd", 1, "Give a location as fetch or enrich printed it"),
    "checkpoint_invalid": Case(f"enrich {RAW}", 1, "Make it again: steam-import fetch", spoil),
    "user_not_found": Case(f"load {ENRICHED.replace(USER, 'user-9')} --database-url {{tables}}", 1, "Create the user"),
    "schema_mismatch": Case(f"load {ENRICHED} --database-url {{empty}}", 1, "Apply"),
    "steam_rate_limited": Case(FETCH, 75, "Try again later", fault(service="steam", status=429)),
    "steam_unavailable": Case(FETCH, 75, "Try again later", fault(service="steam", status=503)),
    "steam_bad_answer": Case(FETCH, 75, "Try again later", fault(service="steam", kind="html")),
    "igdb_unavailable": Case(f"enrich {RAW}", 75, "Try again later", fault(service="igdb", status=503)),
    "store_unavailable": Case(f"{FETCH} --store-url s3://bucket", 75, "Try again later"),
    "database_unavailable": Case(f"load {ENRICHED} --database-url {NO_DATABASE}", 75, "Try again later"),
}


@pytest.fixture
def csvs(monkeypatch: pytest.MonkeyPatch) -> None:
    """CSVs of two users, and an S3 that nobody reaches."""
    for name, value in {"AWS_ENDPOINT_URL_S3": NOWHERE, "AWS_REGION": "eu-central-1", "RETRY_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    for user in (USER, "user-9"):
        raw = Path(RAW.replace(USER, user))
        raw.parent.mkdir(parents=True)
        raw.write_text(RAW_CSV.replace(USER, user))
        Path(ENRICHED.replace(USER, user)).write_text(enriched_csv().replace(USER, user))


@pytest.mark.usefixtures("steam_import", "csvs")
@pytest.mark.parametrize(("code", "case"), CASES.items(), ids=CASES)
def test_every_error_says_what_to_do_and_where_to_read_on(
    code: str, case: Case, sandbox: Sandbox, steam_import: SteamImport, postgres_server: str, templates: dict[int, str]
) -> None:
    case.arrange(sandbox)
    call = case.call.format(tables=url_of(postgres_server, templates[2026]), empty=postgres_server)
    ended = steam_import(*call.split(), "--log-level", "ERROR")
    assert (ended.status, ended.out) == (case.status, "")
    assert ended.err.startswith(f"{code}: ")
    assert case.next_step in ended.err
    assert ended.err.endswith(f"\nMore: steam-import docs errors {code} (docs/errors.md#{code})\n")


def test_every_error_code_is_provoked_and_has_a_section_with_its_exit_status() -> None:
    sections = dict(re.findall(r"(?m)^## (\w+)\n\n(.*)$", PAGE.read_text(encoding="utf-8")))
    assert list(sections) == list(CASES) == list(get_args(ErrorCode))
    for code, case in CASES.items():
        assert sections[code].startswith(f"Exit status {case.status}."), code
