import copy
from collections.abc import Callable
from itertools import chain

import httpx
import pytest

from pipeline.sandbox.apicalypse import parse
from pipeline.sandbox.queries import FEW, candidates, found_rows, page
from pipeline.sandbox.rows import RECORDED_AT
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.wire import Row
from pipeline.sandbox.world import World

Post = Callable[..., httpx.Response]
LATER = RECORDED_AT + 86_400
SIZE = 2 * FEW


@pytest.fixture(scope="module")
def large() -> World:
    return World.synthetic(SIZE, owned=0, shared_every=4)


def ids(world: World, query: str, table: str = "games") -> list[int]:
    return [row["id"] for row in found_rows(world, table, parse(query))]


def looked_at(world: World, query: str, table: str = "external_games") -> list[Row]:
    return list(candidates(world, table, parse(query)))


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        pytest.param('external_game_source = 1 & uid = ("1000000","1000010","no")', 2, id="uids"),
        pytest.param("(id = (1,2,3) & game > 0) & external_game_source = 1", 3, id="ids, within parentheses"),
        pytest.param(f"updated_at > {RECORDED_AT}", 0, id="changed after"),
        pytest.param(f"updated_at >= {RECORDED_AT}", SIZE, id="changed since"),
        pytest.param("id >= 100 & id < 9000", SIZE, id="two that each reach many"),
        pytest.param("id < 100 & id <= 200", 99, id="up to an id"),
        pytest.param("game != 500000", SIZE, id="all but one"),
        pytest.param('uid = "1000000" | uid = "1000010"', SIZE, id="either"),
        pytest.param("game = (null,500000)", SIZE, id="one, or none"),
        pytest.param("game = !(500000)", SIZE, id="none of"),
        pytest.param("game.id = 500000", SIZE, id="through a reference"),
        pytest.param('id > "1"', 0, id="texts have no order"),
    ],
)
def test_of_a_large_table_only_what_an_index_finds_is_looked_at(large: World, condition: str, rows: int) -> None:
    assert len(looked_at(large, f"where {condition};")) == rows


@pytest.mark.parametrize(("sort", "first"), [("asc", 101), ("desc", SIZE - 1)])
def test_a_page_of_a_large_table_begins_where_its_rows_begin(large: World, sort: str, first: int) -> None:
    query = f"where external_game_source = 1 & id > 100 & id < {SIZE}; sort id {sort};"
    assert next(iter(candidates(large, "external_games", parse(query))))["id"] == first


@pytest.mark.parametrize("limit", [500, 499, SIZE // 4])
def test_a_large_table_can_be_read_by_ids_page_by_page(large: World, limit: int) -> None:
    found, last = list[int](), 0
    query = "fields uid; where external_game_source = 1 & id > {}; sort id asc; limit {};"
    while rows := page(large, "external_games", parse(query.format(last, limit))):
        found += [row["id"] for row in rows]
        last = found[-1]
    assert found == [row["id"] for row in large.external_games]


def test_what_is_walked_and_what_is_sorted_come_in_the_same_order(large: World) -> None:
    for sort in ("first_release_date asc", "first_release_date desc", "name asc", "slug desc"):
        everything = ids(large, f"sort {sort};")
        assert [one for one in everything if one < 500_100] == ids(large, f"where id < 500100; sort {sort};")


def test_rows_without_the_sorted_field_come_last_in_large_tables_too() -> None:
    world = World.synthetic(SIZE, owned=0)
    del world.games[500_000]["first_release_date"]
    for direction in ("asc", "desc"):
        assert ids(world, f"sort first_release_date {direction};")[-1] == 500_000


def test_a_field_with_lists_can_be_sorted_and_looked_up(large: World) -> None:
    assert len(ids(large, "sort genres asc;")) == len(large.games)
    of_genre = [row["id"] for row in large.games.values() if 5 in row["genres"]]
    assert ids(large, "where genres = 5;") == of_genre
    assert ids(large, "where genres = [5,7];") == [one for one in of_genre if 7 in large.games[one]["genres"]]


def test_a_row_is_found_as_it_is_now_however_it_was_changed() -> None:
    world = World.synthetic(10, owned=0)
    query = 'where uid = ("new");'
    assert ids(world, query, "external_games") == []
    world.external_games[3]["uid"] = "new"
    world.external_games[4] |= {"uid": "new"}
    world.external_games[5].update(uid="new")
    world.external_games.append({"id": 11, "uid": "new"})
    world.external_games[1:3] = [{"id": 12, "uid": "new"}]
    assert ids(world, query, "external_games") == [12, 4, 5, 6, 11]
    del world.external_games[-1]
    world.external_games[4].pop("uid")
    world.external_games.insert(0, {"id": 13, "uid": "new"})
    assert ids(world, query, "external_games") == [13, 12, 4, 5]
    world.external_games = [{"id": 14, "uid": "new"}]
    world.external_games[0].setdefault("game", 1)
    assert ids(world, 'where uid = "new" & game = 1;', "external_games") == [14]
    world.external_games.clear()
    assert ids(world, query, "external_games") == []


def test_a_game_is_found_as_it_is_now_however_it_was_changed() -> None:
    world = World.synthetic(3, owned=0)
    assert ids(world, 'search "Renamed";') == ids(world, "where id = 7;") == []
    world.games[7] = {"id": 7, "name": "Renamed"}
    world.games[500_001]["name"] = "Renamed"
    assert ids(world, 'search "Renamed";') == [7, 500_001]
    del world.games[500_001]
    assert ids(world, 'search "Renamed";') == ids(world, "where id = (7,500001);") == [7]
    world.games = {}
    assert ids(world, "") == []


def test_a_copy_of_a_world_goes_its_own_way() -> None:
    world = World.synthetic(3, owned=0)
    other = copy.deepcopy(world)
    other.games[500_000]["name"] = "Elsewhere"
    assert ids(other, 'where name = "Elsewhere";') == [500_000]
    assert ids(world, 'where name = "Elsewhere";') == []


@pytest.mark.parametrize("table", ["external_games", "games", "genres", "platforms"])
def test_every_table_tells_what_was_changed_since(sandbox: Sandbox, igdb: Post, table: str) -> None:
    query = f"fields updated_at; where updated_at > {RECORDED_AT}; sort updated_at asc;"
    assert igdb(table, query).json() == []
    rows = list(sandbox.world.table(table).listed())[:3]
    for later, row in enumerate(rows, start=1):
        row["updated_at"] = LATER - later
    assert [row["id"] for row in igdb(table, query).json()] == [row["id"] for row in reversed(rows)]


def test_touching_changes_a_game_now_or_at_a_given_time(sandbox: Sandbox, igdb: Post) -> None:
    assert sandbox.world.touch(472, name="Skyrim", updated_at=LATER) is sandbox.world.games[472]
    assert sandbox.world.touch(891)["updated_at"] > LATER
    rows = igdb("games", f"fields name; where updated_at >= {LATER}; sort updated_at asc;").json()
    assert rows == [{"id": 472, "name": "Skyrim"}, {"id": 891, "name": "Team Fortress 2"}]


def test_touching_changes_every_row_of_a_uid(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.world.touch_external_game("8930", game=16, updated_at=LATER)
    sandbox.world.touch_external_game("440", game=None)
    changed = igdb("external_games", f"fields uid,game; where updated_at > {RECORDED_AT}; sort uid asc;").json()
    assert [(row["uid"], row.get("game")) for row in changed] == [("440", None), ("8930", 16), ("8930", 16)]


def test_synthetic_apps_may_be_odd() -> None:
    world = World.synthetic(120, owned=50, shared_every=4, ambiguous_every=10, bare_every=6)
    assert len(world.accounts[World.SYNTHETIC_ACCOUNT].games) == 50
    assert len(world.store) == 120
    assert all(row["type"] == 0 and row["success"] == 1 for row in world.store.values())
    games = [row.get("game") for row in world.external_games]
    assert games.count(None) == 20
    assert set(games) - {None} == set(world.games)
    rows_of = [row["uid"] for row in world.external_games]
    assert sorted({uid for uid in rows_of if rows_of.count(uid) > 1}, key=int) == [
        str(1_000_000 + 10 * number) for number in range(9, 120, 10)
    ]
    again = World.synthetic(120, owned=50, shared_every=4, ambiguous_every=10, bare_every=6)
    assert list(chain(world.external_games, world.games.values())) == list(
        chain(again.external_games, again.games.values())
    )
