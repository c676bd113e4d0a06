"""The bundles under AWS's runtime client and Python, with nothing else to import from."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from infra.local_lambda import Function, environment, install_runtime, running, unpack
from infra.package import FUNCTIONS, MOST_BYTES, find_python, package
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import PRIVATE
from tests.support.databases import NewDatabase
from tests.support.lambda_functions import ACCOUNT, RAW, USER
from tests.support.programs import QUICK_SETTINGS
from tests.support.stores import BUCKET, served_s3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PYTHON = find_python()
FETCH = {"user_id": USER, "steam_id64": ACCOUNT, "timestamp": "20261123T031749Z"}
ENRICH = {"user_id": USER, "s3_location": RAW}
LOAD = {"user_id": USER, "s3_enriched_location": RAW.replace("-raw", "-enriched")}
LIST = f"user_id,steam_id64\n{USER},{ACCOUNT}\n".encode()
SHORT_CAUSE_BYTES = 1_000
FAILED = {"success": False, "s3_location": None, "game_count": None, "rejected": None}


class Installed(NamedTuple):
    """Each function's bundle, unpacked, and what Lambda's image has."""

    python: str
    folder: Path

    def of(self, function: str, settings: dict[str, str]) -> dict[str, str]:
        return environment(self.folder / function, self.folder / "runtime", settings)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if not PYTHON:
        pytest.skip("there is no Python 3.13 on this machine, which Lambda runs the bundles with")
    folder = tmp_path_factory.mktemp("lambda")
    try:
        install_runtime(PYTHON, folder / "runtime")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"uv cannot install here, without a network perhaps: {error}")
    for function in FUNCTIONS:
        bundle = package(function, "x86_64", folder / "zips")
        assert bundle.unzipped <= MOST_BYTES
        unpack(bundle, folder / function)
    yield Installed(PYTHON, folder)
    shutil.rmtree(folder)


@pytest.fixture
def settings(sandbox: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the functions are configured with: local APIs, an S3 of moto's, a database."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with served_s3() as url:
        place = {"S3_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": url, "DATABASE_URL": new_database(2026)}
        yield sandbox.environment | QUICK_SETTINGS | place


def started(
    installed: Installed, function: str, settings: dict[str, str], folder: Path, handler: str | None = None
) -> AbstractContextManager[Function]:
    module = handler or function
    variables = installed.of(function, settings)
    return running(installed.python, f"handlers.{module}.handler", variables, folder / f"{module}.log")


def test_the_three_functions_work_one_after_another_and_once_more_when_warm(
    installed: Installed, settings: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    stages: dict[str, dict[str, Any]] = {"steam_import": FETCH, "igdb_enrichment": ENRICH, "database_import": LOAD}
    answers = {}
    for function, event in stages.items():
        with started(installed, function, settings, tmp_path) as running_function:
            first, second = (running_function.invoke(event) for _ in range(2))
        assert (first.is_error, first.body["success"]) == (False, True)
        assert second.body["success"]
        answers[function] = first.body
    assert answers["steam_import"]["game_count"] == 4
    assert answers["igdb_enrichment"]["stats"]["matched"] == 2
    assert answers["database_import"]["stats"]["library_items_created"] == 2
    assert sandbox.tokens_minted == 1


def test_a_failure_that_is_final_is_an_answer_and_one_that_is_not_an_error_of_lambdas(
    installed: Installed, settings: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.world.accounts[ACCOUNT].visibility = PRIVATE
    with started(installed, "steam_import", settings, tmp_path) as fetch:
        private = fetch.invoke(FETCH)
        sandbox.faults.add(Fault(service="steam", status=503))
        down = fetch.invoke(FETCH)
        sandbox.faults.clear()
        again = fetch.invoke(FETCH)
    assert private.body.items() >= (FAILED | {"error_code": "private_library"}).items()
    assert (down.is_error, down.body["errorType"]) == (True, "Retryable")
    assert down.body["errorMessage"].startswith("steam_unavailable: ")
    assert len(json.dumps(down.body)) < SHORT_CAUSE_BYTES
    assert (again.is_error, again.body["error_code"]) == (False, "private_library")


def test_the_backfills_bundle_does_its_steps_and_the_enrichments_looks_up_for_it(
    installed: Installed, settings: dict[str, str], tmp_path: Path
) -> None:
    with contextlib.closing(boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL_S3"])) as s3:
        s3.put_object(Bucket=BUCKET, Key="users.csv", Body=LIST)
    with (
        started(installed, "backfill", settings, tmp_path) as backfill,
        started(installed, "igdb_enrichment", settings, tmp_path, handler="catalogue") as catalogue,
    ):
        plan = {"step": "plan", "run_id": "run-1", "users": f"s3://{BUCKET}/users.csv"}
        assert backfill.invoke(plan).body["shards"] == 1
        steps = ("fetch", "catalogue", "look_up", "catalogue", "enrich", "load", "report")
        answers = [
            (catalogue if step == "look_up" else backfill).invoke({"step": step, "run_id": "run-1", "shard": 0})
            for step in steps
        ]
    assert [answer.body["error"] for answer in answers] == [None] * len(steps)
    assert answers[-1].body["stats"]["done"] == 1


def test_near_its_time_limit_an_enrichment_leaves_the_rest_pending(
    installed: Installed, settings: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    with started(installed, "steam_import", settings, tmp_path) as fetch:
        assert fetch.invoke(FETCH).body["success"]
    sandbox.faults.add(Fault(service="igdb", path="/games", kind="stall"))
    with started(installed, "igdb_enrichment", settings | {"HTTP_TIMEOUT_SECONDS": "60"}, tmp_path) as enrich:
        near = enrich.invoke(ENRICH, seconds=42)
        sandbox.faults.clear()
        later = enrich.invoke(ENRICH)
    assert near.body["stats"] | {"pending": 2, "matched": 0} == near.body["stats"]
    assert later.body["stats"] | {"pending": 0, "matched": 2} == later.body["stats"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_of_the_checkout_is_imported_nor_anything_that_no_function_runs(
    installed: Installed, function: str, tmp_path: Path
) -> None:
    program = f"import handlers.{function}, sys; print(*(getattr(m, '__file__', '') for m in sys.modules.values()))"
    run = partial(subprocess.check_output, env=installed.of(function, {}), cwd=tmp_path, text=True)
    files = set(run([installed.python, "-P", "-s", "-c", program]).split())
    assert f"{installed.folder / function}/handlers/{function}.py" in files
    assert [file for file in files if str(Path.cwd()) in file] == []
    bundle = installed.folder / function
    unwanted = ("pipeline/sandbox", "pipeline/cli", "tests", "boto3", "botocore", "pip", "pyarrow", "click", "rich")
    assert [name for name in unwanted if (bundle / name).exists()] == []
    assert list((bundle / "polars" / "__pycache__").glob("*.cpython-313.pyc")) != []
