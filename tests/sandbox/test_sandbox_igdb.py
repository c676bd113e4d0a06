from collections.abc import Callable
from itertools import chain

import httpx
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World

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
    assert [(row["uid"], row["game"]) for row in answer.json()] == [("440", 891), ("8930", 866)]
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


def test_stars_give_every_field_that_has_a_value(sandbox: Sandbox, igdb: Post) -> None:
    (row,) = igdb("games", "fields *,genres.*; exclude summary; where id = 891;").json()
    assert row.keys() == sandbox.world.games[891].keys() - {"summary"}
    assert row["genres"] == [sandbox.world.genres[5]]


def test_references_are_followed_however_deep(igdb: Post) -> None:
    (row,) = igdb("external_games", 'fields game.genres.name; where uid = "440" & game.genres.slug = "shooter";').json()
    assert row["game"] == {"id": 891, "genres": [{"id": 5, "name": "Shooter"}]}


def test_a_reference_to_a_row_that_is_gone_stays_an_id(sandbox: Sandbox, igdb: Post) -> None:
    del sandbox.world.covers[85752]
    assert igdb("games", "fields cover.image_id; where id = 16;").json() == [{"id": 16, "cover": 85752}]


def test_names_are_found_by_a_part_of_them(igdb: Post) -> None:
    rows = igdb("games", 'fields name; where name ~ *"skyrim"* & id != (1,2); sort id asc;').json()
    assert rows[0] == {"id": 472, "name": "The Elder Scrolls V: Skyrim"}
    assert all("Skyrim" in row["name"] for row in rows)
    assert igdb("games", 'fields name; where nope = "x"*;').json()[0]["title"] == "Invalid Field"


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
    rows = igdb(endpoint, "fields *; limit 500;").json()
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
        pytest.param("fields id", 400, "Syntax Error", "Unexpected input at line 1 column 8", id="syntax"),
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
    referred = [row["game"] for row in world.external_games if "game" in row]
    assert set(referred) <= world.games.keys()
    for game in world.games.values():
        assert set(game["genres"]) <= world.genres.keys()
        assert set(game["platforms"]) <= world.platforms.keys()
        assert game.get("cover", 85752) in world.covers
