"""Log lines and metrics of the functions, and the fields that the documented queries use."""

import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import structlog

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.errors import Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.databases import EMPTY, execute, url_of
from tests.support.lambda_functions import ACCOUNT, RAW, USER, Handler, put, remove, small_world
from tests.support.programs import QUICK_SETTINGS, set_only
from tests.support.stores import BUCKET, REGION

QUERIES = Path(__file__).parents[2] / "docs" / "log-queries.md"
INVOCATION = {"stage", "user_id", "run_id", "request_id"}
COMMANDS = {"fields", "filter", "stats", "sort", "limit", "by", "as", "in", "and", "or", "asc", "desc"}
FUNCTIONS = {"bin", "count", "latest", "max", "sum"}

Line = dict[str, Any]


class Told(NamedTuple):
    """Lines of the standard error, and of the standard output."""

    logged: list[Line]
    metrics: list[Line]


def call(handler: Handler, request_id: str, **event: str) -> dict[str, Any]:
    return handler(event | {"user_id": USER}, SimpleNamespace(aws_request_id=request_id))


def lines(text: str) -> list[Line]:
    return [json.loads(line) for line in text.splitlines() if line]


@pytest.fixture(scope="module")
def told(bucket: str, postgres_server: str, templates: dict[Any, str]) -> Iterator[Told]:
    """The log of an import where much goes wrong, and of two that fail; all of them are slow, so they run once."""
    url, out, err = url_of(postgres_server, templates[2026]), StringIO(), StringIO()
    settings = QUICK_SETTINGS | {"S3_BUCKET": bucket, "AWS_REGION": REGION, "DATABASE_URL": url}
    with Sandbox(small_world(), limits=False) as sandbox, pytest.MonkeyPatch.context() as patch:
        set_only(patch, sandbox.environment | settings)
        with redirect_stdout(out), redirect_stderr(err):
            import_with_faults(sandbox)
    yield Told(lines(err.getvalue()), lines(out.getvalue()))
    structlog.reset_defaults()
    remove("")
    execute(url, EMPTY)


def import_with_faults(sandbox: Sandbox) -> None:
    put(f"s3://{BUCKET}/overrides.csv", "appid,action,igdb_id,note\nno number,match,1,\n")
    sandbox.faults.add(Fault(service="steam", status=429, times=1, headers={"Retry-After": "0"}))
    sandbox.faults.add(Fault(service="store", status=503))
    call(steam_import.handler, "a", run_id="run-1", steam_id64=ACCOUNT, timestamp="20261123T031749Z")
    call(igdb_enrichment.handler, "b", run_id="run-1", s3_location=RAW)
    call(database_import.handler, "c", run_id="run-1", s3_enriched_location=RAW.replace("-raw", "-enriched"))
    call(steam_import.handler, "d", run_id="run-2", steam_id64="no such form!")
    sandbox.faults.add(Fault(service="steam", status=503))
    with pytest.raises(Retryable):
        call(steam_import.handler, "e", run_id="run-3", steam_id64=ACCOUNT)


def events(logged: list[Line], *names: str) -> list[Line]:
    return [line for line in logged if line["event"] in names]


def test_every_line_names_its_invocation_and_only_that(told: Told) -> None:
    logged = told.logged
    assert [line for line in logged if not line.keys() >= INVOCATION] == []
    runs = {"a": "run-1", "b": "run-1", "c": "run-1", "d": "run-2", "e": "run-3"}
    assert {(line["request_id"], line["run_id"], line["user_id"]) for line in logged} == {
        (request, run, USER) for request, run in runs.items()
    }


def test_a_stage_logs_one_line_with_its_figures(told: Told) -> None:
    fetched, enriched, loaded = events(told.logged, "fetch", "enrich", "load")
    assert fetched.items() >= {"games": 4, "rejected": 0, "requests": 2, "retries": 1, "rate_limited": 1}.items()
    assert enriched.items() >= {"processed": 4, "matched": 2, "retries": 1, "rate_limited": 0}.items()
    assert loaded.items() >= {"imported_games_created": 4}.items()
    assert min(line["seconds"] for line in (fetched, enriched, loaded)) >= 0


def test_a_retry_names_the_api_and_why(told: Told) -> None:
    first, second, *_ = events(told.logged, "retry")
    assert first.items() >= {"api": "steam", "status": 429, "error_code": "steam_rate_limited", "attempt": 1}.items()
    assert second.items() >= {"api": "steam_store", "status": 503, "error_code": "steam_unavailable"}.items()


def test_a_failure_is_logged_with_its_code_and_seconds(told: Told) -> None:
    failures = events(told.logged, "failed")
    assert [line["error_code"] for line in failures] == ["bad_steam_id", "steam_unavailable"]
    assert min(line["seconds"] for line in failures) >= 0


def test_an_event_that_cannot_be_parsed_is_logged(deployed: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert deployed
    steam_import.handler([], None)
    (line,) = lines(capfd.readouterr().err)
    assert line.items() >= {"event": "failed", "stage": "fetch", "error_code": "bad_event", "run_id": None}.items()


@pytest.mark.parametrize(
    ("status", "response"),
    [
        pytest.param(200, None, id="the right one"),
        pytest.param(200, '{"success":42,"message":"No match"}', id="nobody has it"),
        pytest.param(400, "{}", id="refused"),
        pytest.param(503, "{}", id="down"),
    ],
)
def test_no_line_and_no_exception_of_a_fetch_by_custom_url_has_the_url(
    deployed: Sandbox, capfd: pytest.CaptureFixture[str], status: int, response: str | None
) -> None:
    if response:
        deployed.faults.add(Fault(service="steam", status=status, body=f'{{"response":{response}}}'))
    raised = ""
    try:
        call(steam_import.handler, "a", steam_id64="https://steamcommunity.com/id/four-apps")
    except Retryable as error:
        raised = str(error)
    written = "".join(capfd.readouterr())
    assert len(lines(written)) >= 2
    assert "four-apps" not in written + raised


def test_a_run_without_an_id_is_given_one(deployed: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    deployed.faults.add(Fault(service="steam", status=429, times=1, headers={"Retry-After": "0"}))
    call(steam_import.handler, "a", steam_id64=ACCOUNT)
    call(steam_import.handler, "b", steam_id64=ACCOUNT)
    retried, first, second = (line["run_id"] for line in lines(capfd.readouterr().err))
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert retried == first != second


def test_metrics_are_by_stage_and_failures_by_code_too(told: Told) -> None:
    metrics = told.metrics
    definitions = [line["_aws"]["CloudWatchMetrics"][0] for line in metrics]
    assert {definition["Namespace"] for definition in definitions} == {"SteamLibraryImport"}
    assert [definition["Dimensions"] for definition in definitions] == [[["stage"]]] * 3 + [
        [["stage"], ["stage", "error_code"], ["error_code"]]
    ] * 2
    enriched, failed = metrics[1], metrics[3]
    figures = {"rows": [4], "matched": [2], "unmatched": [1], "pending": [0], "rejected": [0], "retries": [1]}
    assert enriched.items() >= ({"stage": "enrich", "failures": [0]} | figures).items()
    assert failed.items() >= {"stage": "fetch", "error_code": "bad_steam_id", "failures": [1]}.items()
    assert {"Name": "seconds", "Unit": "Seconds"} in definitions[1]["Metrics"]


def documented() -> dict[str, str]:
    found = re.findall(r"(?ms)^## ([^\n]+)\n.*?^```\n(.*?)^```", QUERIES.read_text(encoding="utf-8"))
    assert len(found) == 9
    return dict(found)


def test_the_documented_queries_use_fields_that_are_logged(told: Told) -> None:
    for title, query in documented().items():
        names = re.findall(r'"([a-z ]+)"', query)
        asked = [line for line in told.logged if not names or line["event"] in names]
        assert {line["event"] for line in asked} >= set(names), title
        there = {key for line in asked for key in line}
        assert fields(query) <= there, title


def fields(query: str) -> set[str]:
    """The names in a query that are neither its own words, nor Lambda's fields, nor made in it."""
    bare = re.sub(r'"[^"]*"|@\w+', "", query)
    return set(re.findall(r"\b[a-z]\w*", bare)) - set(re.findall(r"\bas (\w+)", bare)) - COMMANDS - FUNCTIONS
