"""A backfill in which something is wrong with many of the users, and with every twentieth request."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.sandbox.faults import Fault, Kind
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import PRIVATE, World
from tests.support.backfills import Program, add_accounts, new_program, user_list
from tests.support.databases import NewDatabase, fetch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

USERS, GAMES, APPS, SHARD_SIZE = 300, 20, 400, 40
PRIVATE_USERS, GONE, SHORT, EMPTY = 15, 3, 3, 4
KINDS: tuple[Kind, ...] = ("status", "reset", "cut", "not_json")
FAILING = 0.05
STATUSES = ("matched", "unmatched", "filtered", "pending", "rejected")
SHORT_ANSWER = '{"response":{"game_count":9,"games":[{"appid":10}]}}'


@pytest.fixture
def world() -> World:
    return World.synthetic(APPS, bare_every=7)


@pytest.fixture
def program(sandbox: Sandbox, tmp_path: Path, new_database: NewDatabase) -> Program:
    """A crowd that holds something of everything, and a list that names a user twice."""
    accounts = a_crowd(sandbox)
    return new_program(sandbox, tmp_path / "two", new_database(2026), user_list(accounts, f"user-0,{accounts[0]}"))


def a_crowd(sandbox: Sandbox) -> list[str]:
    accounts = add_accounts(sandbox.world, USERS, GAMES)
    left = iter(random.Random(1).sample(accounts, PRIVATE_USERS + GONE + SHORT + EMPTY + 1))
    for _ in range(PRIVATE_USERS):
        sandbox.world.accounts[next(left)].visibility = PRIVATE
    for _ in range(GONE):
        del sandbox.world.accounts[next(left)]
    for _ in range(EMPTY):
        sandbox.world.accounts[next(left)].games.clear()
    sandbox.world.add_owned(next(left), 2**40, "No appid can be so large")
    for account in left:
        sandbox.faults.add(Fault(path="GetOwnedGames", when=_asks_for(account), status=200, body=SHORT_ANSWER))
    return accounts


def test_every_user_ends_in_one_outcome_and_every_row_is_accounted_for(program: Program) -> None:
    for kind in KINDS:
        program.sandbox.faults.add(Fault(kind=kind, probability=FAILING / len(KINDS)))

    program.run(SHARD_SIZE, RETRY_ATTEMPTS="6")

    outcomes = program.outcomes()
    done = USERS - PRIVATE_USERS - GONE - SHORT - EMPTY
    assert Counter(user["outcome"] for user in outcomes) == {
        "done": done,
        "private": PRIVATE_USERS,
        "not_found": GONE,
        "failed": SHORT,
        "empty": EMPTY,
        "rejected": 1,
    }
    assert {user["user_id"] for user in outcomes} == {f"user-{number}" for number in range(USERS)}
    for user in outcomes:
        assert int(user["rows"]) == sum(int(user[status]) for status in STATUSES), user
    assert_the_database_has(program, done * GAMES)
    stages = program.report()["stages"]
    assert [stages[step]["rows"] for step in ("fetch", "enrich", "load")] == [done * GAMES + 1, *2 * [done * GAMES]]
    failed = sum(record.status != 200 for record in program.sandbox.asked("steam"))
    assert failed > FAILING / 2 * USERS


def test_two_workers_at_once_end_as_one_does(program: Program, tmp_path: Path, new_database: NewDatabase) -> None:
    users = (program.folder / "users.csv").read_bytes()
    alone = new_program(program.sandbox, tmp_path / "alone", new_database(2026), users)
    alone.run(SHARD_SIZE)

    with ExitStack() as both:
        workers = [both.enter_context(program.started(SHARD_SIZE)) for _ in range(2)]
        said = [worker.communicate()[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], said
    assert program.end_state() == alone.end_state()
    assert len(program.outcomes()) == USERS + 1


def assert_the_database_has(program: Program, rows: int) -> None:
    """As many rows as were loaded, each user's app once."""
    there = fetch(program.database_url, 'SELECT "userId", "storefrontGameId" FROM "ImportedGame"')
    assert there.height == rows
    assert there.is_unique().all()


def _asks_for(account: str) -> Callable[[str], bool]:
    return lambda query: account in query
