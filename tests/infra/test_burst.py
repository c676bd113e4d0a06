"""Many imports at once by the real state machine and handlers, where functions throttle as Lambda does."""

import threading
from collections import Counter
from typing import Any, ClassVar

import pytest

from handlers import catalogue, database_import, igdb_enrichment, steam_import
from pipeline import clients
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World
from pipeline.settings import Settings
from tests.support.databases import NewDatabase, rows_of
from tests.support.deployment import Throttled, create, deployed_functions, start, template, transitions, wait_for
from tests.support.lambda_functions import Handler, written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMPORTS, APPS, OWNED = 60, 400, 20
PACE = 0.1
"""The state machine's waits, beside those on AWS."""

SECONDS = 2.0
"""How long an invocation occupies its function: on Lambda they work side by side, in this process they take turns."""

MOST_TRANSITIONS = 20
HANDLERS: dict[str, Handler] = {
    "SteamImportFunction": steam_import.handler,
    "IgdbEnrichmentFunction": igdb_enrichment.handler,
    "CatalogueFunction": catalogue.handler,
    "DatabaseImportFunction": database_import.handler,
}


class Reserved:
    """A function of which no more run at once than the template reserves; the look-up occupies it until it is done."""

    throttles: ClassVar[Counter[str]] = Counter()
    turn = threading.Lock()

    def __init__(self, name: str) -> None:
        from benchmarks.burst import concurrency

        self.name = name
        self.free = threading.Semaphore(concurrency(template(), name) or IMPORTS)

    def __call__(self, event: object, context: object) -> dict[str, Any]:
        if not self.free.acquire(blocking=False):
            self.throttles[self.name] += 1
            raise Throttled
        if self.name != "CatalogueFunction":
            threading.Timer(SECONDS, self.free.release).start()
        try:
            with self.turn:
                return HANDLERS[self.name](event, context)
        finally:
            if self.name == "CatalogueFunction":
                self.free.release()


@pytest.fixture
def world() -> World:
    """Sixty accounts that share four hundred games."""
    world = World.synthetic(APPS)
    apps = world.accounts[World.SYNTHETIC_ACCOUNT].games
    for number in range(IMPORTS):
        world.accounts[account(number)] = Account([apps[(number * 7 + game * 11) % APPS] for game in range(OWNED)])
    return world


@pytest.fixture
def sandbox(world: World) -> Any:
    """Steam, Twitch and IGDB with their limits."""
    with Sandbox(world, latency_seconds=0.05) as running:
        yield running


def account(number: int) -> str:
    return str(76561197970000000 + number)


def test_sixty_imports_at_once_all_end_and_ask_once_about_each_app_at_igdbs_rate(
    deployed: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database(2026)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("STEAM_REQUESTS_PER_SECOND", "1000")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.delenv("IGDB_REQUESTS_PER_SECOND", raising=False)
    clients.open_database(Settings.read()).ensure_users([f"user-{number}" for number in range(IMPORTS)])
    with deployed_functions({name: Reserved(name) for name in HANDLERS}):
        machine = create("import", pace=PACE)
        events = [{"user_id": f"user-{number}", "steam_id64": account(number)} for number in range(IMPORTS)]
        executions = [start(machine, event) for event in events]
        ended = [wait_for(execution, seconds=200, pause=0.5) for execution in executions]
        assert max(map(transitions, ended)) <= MOST_TRANSITIONS
    assert {one.status for one in ended} == {"SUCCEEDED"}, ended
    assert [one.output["enrich"]["stats"]["pending"] for one in ended] == [0] * IMPORTS
    assert {one.output["success"] for one in ended} == {True}
    assert Reserved.throttles["CatalogueFunction"] > 0
    assert deployed.busiest_second("igdb") <= 4
    asked = Counter(app for record in deployed.asked("igdb") for app in _apps(record.body) if record.status == 200)
    types = Counter(part.split("}")[0] for record in deployed.asked("store") for part in _parts(record.params))
    assert max(asked.values()) == max(types.values()) == 1
    assert len(asked) == len(types) == len(rows_of(url, "Game"))
    assert written("catalogue/wanted/") == {}


def _apps(body: str) -> list[str]:
    """The apps that a query about external games, or several in one multiquery, asks about."""
    return [app for part in body.split("uid = (")[1:] for app in part.split(")")[0].split(",")]


def _parts(params: Any) -> list[str]:
    return params["input_json"].split('"context"')[0].split('"appid":')[1:]  # type: ignore[no-any-return]
