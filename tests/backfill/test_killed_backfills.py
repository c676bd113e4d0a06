"""A backfill that is killed again and again, or done by two workers at once, beside one that is left alone."""

import json
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.keys import Shard
from pipeline.storage.store import Store
from schemas.events import SHARD_STEPS
from tests.support.backfills import Program, add_accounts, new_program, user_list
from tests.support.crashes import find_damaged_objects
from tests.support.databases import NewDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

USERS, GAMES, APPS, SHARD_SIZE, KILLS = 60, 30, 300, 5, 10
SHARDS = USERS // SHARD_SIZE
FILES = SHARDS * (1 + len(SHARD_STEPS))
"""The users of each shard, and a manifest of each step."""

LONGEST_DELAY_SECONDS = 0.3
NEAR_THE_END = FILES - 3


@pytest.fixture
def world() -> World:
    return World.synthetic(APPS, bare_every=7, shared_every=5)


@pytest.fixture
def users(sandbox: Sandbox) -> bytes:
    """A list of accounts: one has a row that is set aside, one does not exist, and the last line is rejected."""
    accounts = add_accounts(sandbox.world, USERS - 1, GAMES)
    sandbox.world.add_owned(accounts[3], 2**40, "No appid can be so large")
    return user_list([*accounts, World.UNKNOWN_ACCOUNT], f"user-0,{accounts[0]}")


@pytest.fixture
def unbroken(sandbox: Sandbox, tmp_path: Path, new_database: NewDatabase, users: bytes) -> Program:
    """The program after it has done the backfill alone, without an interruption."""
    unbroken = new_program(sandbox, tmp_path / "unbroken", new_database(2026), users)
    unbroken.run(SHARD_SIZE)
    return unbroken


@pytest.fixture
def broken(sandbox: Sandbox, tmp_path: Path, new_database: NewDatabase, users: bytes) -> Program:
    """The program with a store and a database of its own, in which it has done nothing yet."""
    return new_program(sandbox, tmp_path / "broken", new_database(2026), users)


def test_two_workers_at_once_end_as_one_does(unbroken: Program, broken: Program) -> None:
    with ExitStack() as both:
        workers = [both.enter_context(broken.started(SHARD_SIZE)) for _ in range(2)]
        said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert broken.end_state() == unbroken.end_state()


def test_a_backfill_killed_ten_times_ends_as_one_that_never_was(
    unbroken: Program, broken: Program, sandbox: Sandbox
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it where the test fails
    chance = random.Random(seed)
    through: list[tuple[int, set[str]]] = []
    for files in sorted(chance.sample(range(1, FILES + 1), KILLS)):
        is_killed = kill(broken, files, chance.uniform(0, LONGEST_DELAY_SECONDS))
        assert is_killed or files > NEAR_THE_END
        assert find_damaged_objects(broken.store) == []
        through.append((len(sandbox.requests), fetched(broken.store)))
    broken.run(SHARD_SIZE)

    assert broken.end_state() == unbroken.end_state()
    for requests, accounts in through:
        assert accounts & {record.params.get("steamid") for record in sandbox.requests[requests:]} == set()


def kill(broken: Program, files: int, delay: float) -> bool:
    """Start the backfill, kill it so many seconds after so many files are there; whether it did not end before."""
    done = count(broken)
    with broken.started(SHARD_SIZE) as process:
        # It gets to do one thing at least, unless all is done.
        while process.poll() is None and count(broken) < min(max(files, done + 1), FILES):
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
    return process.returncode != 0


def count(broken: Program) -> int:
    shards = [Shard("run", number) for number in range(SHARDS)]
    keys = {key for shard in shards for key in (shard.users_key, *map(shard.manifest_key, SHARD_STEPS))}
    return len(keys & broken.store.list("backfills/").keys())


def fetched(store: Store) -> set[str]:
    """The accounts of the shards that need not be fetched again."""
    found: set[str] = set()
    for number in range(SHARDS):
        body = store.read(Shard("run", number).manifest_key("fetch"))
        found |= {user["steam_id64"] for user in json.loads(body)["users"]} if body else set()
    return found
