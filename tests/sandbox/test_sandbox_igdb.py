import time
from collections.abc import Callable
from itertools import chain

import httpx
import pytest

from pipeline.sandbox.apicalypse import parse_query
from pipeline.sandbox.queries import find_rows
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import RECORDED_AT, World

LATER = RECORDED_AT + 86_400
Post = Callable[..., httpx.Response]


def test_tokens_are_minted_and_counted(sandbox: Sandbox, token: Post) -> None:
    minted = token().json()
    assert minted.keys() == {"access_token", "expires_in", "token_type"}
    assert (minted["expires_in"], minted["token_type"]) == (5_587_808, "bearer")
    token()
    assert sandbox.tokens_minted == 2


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        pytest.param({"client_id": "wrong"}, 400, "invalid client", id="id"),
        pytest.param({"client_secret": "wrong"}, 403, "invalid client secret", id="secret"),
        pytest.param({"grant_type": "password"}, 400, "invalid grant type", id="grant"),
    ],
)
def test_wrong_credentials_get_no_token(token: Post, changed: dict[str, str], status: int, message: str) -> None:
    answer = token(**changed)
    assert (answer.status_code, answer.json()) == (status, {"status": status, "message": message})


def test_credentials_may_come_in_the_query_string_and_are_never_recorded(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    settings = sandbox.environment
    given = {"client_id": settings["IGDB_CLIENT_ID"], "client_secret": settings["IGDB_CLIENT_SECRET"]}
    answer = client.post(settings["TWITCH_TOKEN_URL"], params=given | {"grant_type": "client_credentials"})
    assert answer.status_code == 200
    assert settings["IGDB_CLIENT_SECRET"] not in repr(sandbox.requests)


def test_without_valid_headers_igdb_says_what_to_try(igdb: Post) -> None:
    for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Client-ID": "wrong"}):
        answer = igdb("games", "fields name;", **wrong)
        assert answer.status_code == 401
        assert answer.json()["message"] == "Authorization Failure. Have you tried:"


def test_revoked_tokens_are_refused_and_new_ones_accepted(sandbox: Sandbox, igdb: Post, token: Post) -> None:
    sandbox.revoke_tokens()
    assert igdb("games", "fields name;").status_code == 401
    fresh = f"Bearer {token().json()['access_token']}"
    assert igdb("games", "fields name;", Authorization=fresh).status_code == 200


def test_expired_tokens_are_refused(sandbox: Sandbox, igdb: Post, token: Post) -> None:
    sandbox.twitch.token_seconds = 0
    dead = f"Bearer {token().json()['access_token']}"
    assert igdb("games", "fields name;", Authorization=dead).status_code == 401


def test_of_one_application_twentyfive_tokens_live(igdb: Post, token: Post) -> None:
    for _ in range(25):
        token()
    assert igdb("games", "fields name;").status_code == 401


def test_steam_apps_are_found_by_uid(igdb: Post) -> None:
    query = (
        'fields uid,game; where external_game_source = 1 & uid = ("440","8930","268850","999"); sort id asc; limit 500;'
    )
    answer = igdb("external_games", query)
    assert answer.headers["content-type"].startswith("application/json")
    assert [(row["uid"], row["game"]) for row in answer.json()] == [("8930", 866), ("440", 891)]
    assert all(row.keys() == {"id", "uid", "game"} for row in answer.json())


def test_other_shops_use_the_same_uids(igdb: Post) -> None:
    rows = igdb("external_games", 'fields game,external_game_source; where uid = "8930"; sort id asc;').json()
    assert [(row["external_game_source"], row["game"]) for row in rows] == [(1, 866), (5, 1942)]


def test_a_row_may_lack_its_game(igdb: Post) -> None:
    (row,) = igdb("external_games", 'fields uid,game; where uid = "365720";').json()
    assert row.keys() == {"id", "uid"}


def test_unexpanded_references_are_ids_and_expanded_ones_objects_with_ids(igdb: Post) -> None:
    (bare,) = igdb("games", "fields name,genres,platforms,cover; where id = 16;").json()
    assert bare == {"id": 16, "name": "Fallout: New Vegas", "genres": [5, 12], "platforms": [6, 9, 12], "cover": 85752}
    (full,) = igdb("games", "fields genres.slug,platforms.name,cover.image_id; where id = 16;").json()
    assert full["genres"] == [{"id": 5, "slug": "shooter"}, {"id": 12, "slug": "role-playing-rpg"}]
    assert full["platforms"][0] == {"id": 6, "name": "PC (Microsoft Windows)"}
    assert full["cover"] == {"id": 85752, "image_id": "co1u60"}


def test_references_are_followed_however_deep(igdb: Post) -> None:
    (row,) = igdb("external_games", 'fields game.genres.name; where uid = "440" & game.genres.slug = "shooter";').json()
    assert row["game"] == {"id": 891, "genres": [{"id": 5, "name": "Shooter"}]}


def test_a_reference_to_a_row_that_is_gone_stays_an_id(sandbox: Sandbox, igdb: Post) -> None:
    del sandbox.world.covers[85752]
    assert igdb("games", "fields cover.image_id; where id = 16;").json() == [{"id": 16, "cover": 85752}]


def test_fields_without_a_value_are_left_out(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.world.games[891] |= {"summary": None, "genres": []}
    assert igdb("games", "fields summary,genres,storyline; where id = 891;").json() == [{"id": 891}]


def test_pages_hold_ten_rows_unless_told_otherwise(igdb: Post) -> None:
    assert len(igdb("external_games", "fields uid;").json()) == 10
    whole = igdb("external_games", "fields uid; sort id asc; limit 500;").json()
    pages = [
        igdb("external_games", f"fields uid; sort id asc; limit 50; offset {n};").json() for n in (0, 50, 100, 150)
    ]
    assert list(chain.from_iterable(pages)) == whole
    assert igdb("external_games/count", "").json() == {"count": len(whole)}


def test_rows_without_the_sorted_field_come_last(igdb: Post) -> None:
    rows = igdb("games", "fields first_release_date; sort first_release_date desc; limit 500;").json()
    dates = [row.get("first_release_date", 0) for row in rows]
    assert dates == sorted(dates, reverse=True)
    assert 0 in dates


def test_no_match_is_an_empty_list(igdb: Post) -> None:
    assert igdb("games", "fields name; where id = 0;").json() == []


@pytest.mark.parametrize("endpoint", ["genres", "platforms", "covers"])
def test_the_small_tables_answer_too(igdb: Post, endpoint: str) -> None:
    rows = igdb(endpoint, "fields checksum; limit 500;").json()
    assert rows
    assert all({"id", "checksum"} <= row.keys() for row in rows)


@pytest.mark.parametrize(
    ("query", "status", "title", "cause"),
    [
        pytest.param("fields nope;", 400, "Invalid Field", "Invalid field name: 'nope'", id="field"),
        pytest.param(
            "fields genres.nope;", 400, "Invalid Field", "Invalid field name: 'genres.nope'", id="expanded field"
        ),
        pytest.param("where nope = 1;", 400, "Invalid Field", "Invalid field name: 'nope'", id="compared field"),
        pytest.param("sort nope;", 400, "Invalid Field", "Invalid field name: 'nope'", id="sorted field"),
        pytest.param("fields id", 400, "Syntax Error", "Unexpected input at 'fields id'", id="syntax"),
        pytest.param(
            "where slug = (1,2);",
            400,
            "Syntax Error",
            "Expecting a STRING as input, surround your input with quotes",
            id="number for a text",
        ),
        pytest.param(
            "limit 501;", 403, "Request limit to high", "You typed in 501 as limit but your maximum is 500", id="limit"
        ),
    ],
)
def test_bad_queries_are_answered_with_a_list(igdb: Post, query: str, status: int, title: str, cause: str) -> None:
    answer = igdb("games", query)
    assert answer.status_code == status
    assert answer.json() == [{"title": title, "status": status, "cause": cause}]


def test_an_unknown_endpoint_is_named(igdb: Post, client: httpx.Client, sandbox: Sandbox) -> None:
    answer = igdb("gamez", "fields name;")
    assert (answer.status_code, answer.text) == (404, "Endpoint POST /gamez not found")
    assert answer.headers["content-type"].startswith("text/plain")
    assert client.get(f"{sandbox.environment['IGDB_API_URL']}/games").status_code == 401


@pytest.mark.parametrize(
    ("size", "status", "title"),
    [
        (32_000, 200, None),
        (32_001, 413, "Content Too Large"),
        (39_999, 413, "Content Too Large"),
        (40_000, 413, "Request Too Large"),
    ],
)
def test_long_requests_are_refused(igdb: Post, size: int, status: int, title: str | None) -> None:
    answer = igdb("games", "limit 1;".ljust(size))
    assert answer.status_code == status
    if title:
        assert answer.json()["title"] == title


def test_long_responses_are_refused(sandbox: Sandbox, igdb: Post) -> None:
    for game in sandbox.world.games.values():
        game["summary"] = "x" * 100_000
    answer = igdb("games", "fields summary; limit 500;")
    assert (answer.status_code, answer.json()[0]["title"]) == (413, "Payload Too Large")
    assert igdb("games", "fields summary; limit 50;").status_code == 200


def test_two_thousand_synthetic_games_are_all_there() -> None:
    world = World.synthetic(2000)
    assert world.accounts == World.synthetic(2000).accounts
    assert len(world.accounts[World.SYNTHETIC_ACCOUNT].games) == len(world.games) == len(world.external_games) == 2000
    assert len({game["slug"] for game in world.games.values()}) == 2000
    assert all({"summary", "genres", "platforms", "cover"} <= game.keys() for game in world.games.values())


def test_the_recorded_world_holds_together() -> None:
    world = World.recorded()
    referred = [row["game"] for row in world.external_games.values() if "game" in row]
    assert set(referred) <= world.games.keys()
    for game in world.games.values():
        assert set(game["genres"]) <= world.genres.keys()
        assert set(game["platforms"]) <= world.platforms.keys()
        assert game.get("cover", 85752) in world.covers


def named(name: str, query: str = "fields name;", endpoint: str = "genres") -> str:
    return f'query {endpoint} "{name}" {{ {query} }};\n'


def test_results_come_in_order_under_their_names(igdb: Post) -> None:
    query = named("Shooter", "fields name; where id = 5;") + named("All", "", "genres/count")
    query += named("None", "fields name; where id = 0;") + named("Ten", "fields name;", "platforms")
    found = igdb("multiquery", query).json()
    assert found[:3] == [
        {"name": "Shooter", "result": [{"id": 5, "name": "Shooter"}]},
        {"name": "All", "count": igdb("genres/count", "").json()["count"]},
        {"name": "None", "result": []},
    ]
    assert (found[3]["name"], found[3]["result"]) == ("Ten", igdb("platforms", "fields name;").json())


def test_each_query_has_a_limit_of_its_own(igdb: Post) -> None:
    query = "".join(named(str(number), "limit 20;", "external_games") for number in range(10))
    assert [len(one["result"]) for one in igdb("multiquery", query).json()] == [20] * 10


def test_eleven_queries_are_too_many(igdb: Post) -> None:
    answer = igdb("multiquery", "".join(named(str(number)) for number in range(11)))
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "title": "Too Many Concurrent queries",
            "details": "The maximum amount of concurrent request is at 10 queries",
        },
    )


@pytest.mark.parametrize(
    ("bad", "status", "title"),
    [
        pytest.param(named("Bad", "fields nope;"), 400, "Invalid Field", id="field"),
        pytest.param(named("Bad", "fields name"), 400, "Syntax Error", id="syntax"),
        pytest.param(named("Bad", endpoint="gamez"), 400, "Syntax Error", id="endpoint"),
        pytest.param(named("Bad", endpoint="multiquery"), 400, "Syntax Error", id="multiquery"),
        pytest.param(named("Bad", "limit 501;"), 403, "Request limit to high", id="limit"),
    ],
)
def test_one_bad_query_fails_all(igdb: Post, bad: str, status: int, title: str) -> None:
    answer = igdb("multiquery", named("Good") + bad)
    assert (answer.status_code, answer.json()[0]["title"]) == (status, title)


def test_requests_and_responses_may_be_no_longer_than_others(sandbox: Sandbox, igdb: Post) -> None:
    assert igdb("multiquery", named("Long").ljust(32_001)).status_code == 413
    for game in sandbox.world.games.values():
        game["summary"] = "x" * 30_000
    one = named("Games", "fields summary; limit 500;", "games")
    assert igdb("multiquery", one).status_code == 200
    assert igdb("multiquery", one * 3).json()[0]["title"] == "Payload Too Large"


def test_a_multiquery_needs_a_token_too(igdb: Post) -> None:
    assert igdb("multiquery", named("Any"), Authorization="Bearer wrong").status_code == 401


def found_names(igdb: Post, query: str) -> list[str]:
    return [row["name"] for row in igdb("games", f"fields name; {query}").json()]


def test_a_search_finds_the_most_alike_first(igdb: Post) -> None:
    assert found_names(igdb, 'search "MASS EFFECT 2";')[:2] == ["Mass Effect 2", "Mass Effect"]
    assert found_names(igdb, 'search "Xyzzy plugh";') == []


def test_a_search_can_be_narrowed_and_cut_but_not_sorted(igdb: Post) -> None:
    alike = found_names(igdb, 'search "The Elder Scrolls V: Skyrim"; limit 500;')
    assert len(alike) > 10
    assert found_names(igdb, 'search "The Elder Scrolls V: Skyrim"; sort id asc;') == alike[:10]
    assert found_names(igdb, 'search "The Elder Scrolls V: Skyrim"; limit 2; offset 1;') == alike[1:3]
    assert found_names(igdb, 'search "The Elder Scrolls V: Skyrim"; where id != 472;')[0] == alike[1]


def test_a_search_knows_alternative_names(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.world.add_alternative_name(472, "TES 5")
    sandbox.world.add_alternative_name(472, "TESV")
    (game,) = igdb("games", 'search "tesv"; fields alternative_names.name; limit 1;').json()
    assert game == {"id": 472, "alternative_names": [{"id": 1, "name": "TES 5"}, {"id": 2, "name": "TESV"}]}
    (name,) = igdb("alternative_names", 'fields game.name; where name = "TESV";').json()
    assert name["game"] == {"id": 472, "name": "The Elder Scrolls V: Skyrim"}


def test_only_games_can_be_searched(igdb: Post) -> None:
    answer = igdb("genres", 'search "Shooter";')
    assert (answer.status_code, answer.json()[0]["title"]) == (400, "Syntax Error")


def test_ten_names_are_searched_at_once(igdb: Post) -> None:
    names = ["Terraria", "Rust", "Hades", "Dota 2", "Spore", "Banana", "Frostpunk", "Warframe", "Toribash", "Unturned"]
    query = "".join(named(name, f'search "{name}"; fields name; limit 5;', "games") for name in names)
    found = igdb("multiquery", query).json()
    assert [one["name"] for one in found] == names
    assert found[0]["result"][0]["name"] == "Terraria"


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        pytest.param('external_game_source = 1 & uid = ("1000000","1000010","no")', [1, 2], id="uids"),
        pytest.param("id = (1,2,3) & game > 500001", [3], id="ids"),
        pytest.param(f"updated_at > {RECORDED_AT}", [], id="changed after"),
        pytest.param(f"updated_at >= {RECORDED_AT} & id < 3", [1, 2], id="changed since"),
        pytest.param("game != 500000 & id <= 2", [2], id="not equal"),
        pytest.param('uid = "1000000" | uid = "1000010"', [1, 2], id="either"),
        pytest.param("game.id = 500000", [1], id="through a reference"),
        pytest.param('id > "1"', [], id="texts have no order"),
    ],
)
def test_rows_are_found_by_a_condition(condition: str, rows: list[int]) -> None:
    found = find_rows(World.synthetic(10, owned=0), "external_games", parse_query(f"where {condition};"))
    assert [row["id"] for row in found] == rows


def test_of_a_list_one_value_must_be_equal() -> None:
    world = World.synthetic(50, owned=0)
    found = find_rows(world, "games", parse_query("where genres = (5,7);"))
    assert found == [row for row in world.games.values() if {5, 7} & set(row["genres"])]


def test_thousands_of_rows_are_found_by_their_uids_in_no_time() -> None:
    world = World.synthetic(5_000, owned=0)
    uids = ",".join(f'"{1_000_000 + 10 * number}"' for number in range(500))
    query = parse_query(f"where uid = ({uids});")
    started = time.monotonic()
    assert len(find_rows(world, "external_games", query)) == 500
    assert time.monotonic() - started < 0.2


@pytest.mark.parametrize("table", ["external_games", "games", "genres", "platforms"])
def test_every_table_tells_what_was_changed_since(sandbox: Sandbox, igdb: Post, table: str) -> None:
    query = f"fields updated_at; where updated_at > {RECORDED_AT}; sort updated_at asc;"
    assert igdb(table, query).json() == []
    rows = list(sandbox.world.table(table).values())[:3]
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
    games = [row.get("game") for row in world.external_games.values()]
    assert games.count(None) == 20
    assert set(games) - {None} == set(world.games)
    rows_of = [row["uid"] for row in world.external_games.values()]
    assert sorted({uid for uid in rows_of if rows_of.count(uid) > 1}, key=int) == [
        str(1_000_000 + 10 * number) for number in range(9, 120, 10)
    ]
    assert world == World.synthetic(120, owned=50, shared_every=4, ambiguous_every=10, bare_every=6)
