"""Many processes and one catalogue, as when Step Functions import many users at once."""

import asyncio
import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pipeline.apis.retry import RetryPolicy
from pipeline.catalogue.files import APPS, NEW, CatalogueFiles
from pipeline.catalogue.look_up import no_progress
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.keys import raw_checkpoint
from pipeline.storage.store import DirectoryStore, Store, open_store_at_url
from tests.catalogue.test_catalogue_files import known
from tests.support.apis import Setup, enriching, stats
from tests.support.stores import BUCKET, TIMESTAMP, Watched, own, served_s3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROCESSES, USERS, GAMES, APPIDS = 8, 6, 60, 3_000
PATIENT = RetryPolicy(attempts=5, base_seconds=0.05)
SPAWN = multiprocessing.get_context("spawn")


def open_place(place: Mapping[str, str]) -> Store:
    return open_store_at_url(place["url"], region="eu-central-1", endpoint_url=place.get("endpoint_url"))


def import_users(number: int, settings: dict[str, str], place: dict[str, str]) -> None:
    """A process that imports users of its own, each with other games; prints nothing, fails loudly."""
    store, chance = open_place(place), random.Random(number)
    for user in range(USERS):
        raw = raw_checkpoint(f"player-{number}-{user}", TIMESTAMP)
        appids = [1_000_000 + 10 * app for app in chance.sample(range(APPIDS), GAMES)]
        own(store, [{"appid": appid, "name": "Any"} for appid in appids], raw)
        setup = Setup(policy=PATIENT)
        response = asyncio.run(enriching(settings, store, store.locate(raw.key), no_progress, setup))
        if stats(response).matched != GAMES:
            sys.exit(f"{raw.user_id}: {stats(response)}")


def compact_again_and_again(place: dict[str, str], is_over: Any) -> None:
    """The ninth process."""
    store = open_place(place)
    while not is_over.is_set():
        CatalogueFiles(store).compact()


@contextmanager
def a_directory(folder: Path) -> Iterator[dict[str, str]]:
    yield {"url": str(folder)}


@contextmanager
def a_bucket(_folder: Path) -> Iterator[dict[str, str]]:
    with served_s3() as url:
        yield {"url": f"s3://{BUCKET}", "endpoint_url": url}


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("a_place", [a_directory, a_bucket], ids=["a directory", "S3"])
def test_eight_processes_enrich_while_a_ninth_compacts_and_no_row_is_ever_missing(tmp_path: Path, a_place: Any) -> None:
    with Sandbox(World.synthetic(APPIDS), limits=False) as sandbox, a_place(tmp_path) as place:
        is_over = SPAWN.Event()
        importers = [
            SPAWN.Process(target=import_users, args=(number, sandbox.environment, place)) for number in range(PROCESSES)
        ]
        compactor = SPAWN.Process(target=compact_again_and_again, args=(place, is_over))
        for process in (compactor, *importers):
            process.start()
        store = open_place(place)
        reads = look_on(store, importers)
        is_over.set()
        for process in (compactor, *importers):
            process.join(60)
        assert [process.exitcode for process in (compactor, *importers)] == [0] * (PROCESSES + 1)
        assert reads > 10
        CatalogueFiles(store).compact()
        assert [key for key in store.list("catalogue/") if not key.startswith("catalogue/new/.")] == [APPS]
        assert set(CatalogueFiles(store).read()["appid"]) == owned()
        assert store.list(NEW) == {}


def compact_and_die(folder: str, call: int) -> None:
    """A process that is killed in the so many-th call of the store; in a write, when some bytes are written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    CatalogueFiles(Watched(DirectoryStore(Path(folder)), call, is_kill=True)).compact()


def test_a_compaction_killed_in_any_call_loses_nothing_and_the_next_leaves_one_file(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    for number in count(1):
        for appid in (10 * number, 10 * number + 1):
            CatalogueFiles(store).remember(known(appid))
        whole = CatalogueFiles(store).read()
        process = SPAWN.Process(target=compact_and_die, args=(str(tmp_path), number))
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL, -signal.SIGXFSZ)
        assert CatalogueFiles(store).read().equals(whole)
        CatalogueFiles(store).compact()
        assert CatalogueFiles(store).read().equals(whole)
        assert store.list("catalogue/").keys() == {APPS}
        if process.exitcode == 0:
            break
    assert number > 7


def look_on(store: Store, importers: list[Any]) -> int:
    """Read the catalogue, anew and with a memory, until all are done: what was there once is always there."""
    remembering, seen, reads = CatalogueFiles(store), set[int](), 0
    while any(process.is_alive() for process in importers):
        for catalogue in (remembering, CatalogueFiles(store)):
            found = set(catalogue.read()["appid"])
            assert seen <= found
            seen = found
            reads += 1
        time.sleep(0.02)
    return reads


def owned() -> set[int]:
    """The apps of all users of all processes."""
    found = set[int]()
    for number in range(PROCESSES):
        chance = random.Random(number)
        for _ in range(USERS):
            found |= {1_000_000 + 10 * app for app in chance.sample(range(APPIDS), GAMES)}
    return found
