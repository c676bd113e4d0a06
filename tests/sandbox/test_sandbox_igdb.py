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


def named(name: str, query: str = "fields name;", endpoint: str = "genres") -> str:
    """One query of a multiquery."""
    return f'query {endpoint} "{name}" {{ {query} }};\n'


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


def test_credentials_are_never_recorded(sandbox: Sandbox, client: httpx.Client) -> None:
    settings = sandbox.environment
    given = {"client_id": settings["IGDB_CLIENT_ID"], "client_secret": settings["IGDB_CLIENT_SECRET"]}
    answer = client.post(settings["TWITCH_TOKEN_URL"], params=given | {"grant_type": "client_credentials"})
    assert answer.status_code == 200
    assert settings["IGDB_CLIENT_SECRET"] not in repr(sandbox.requests)


@pytest.mark.parametrize("endpoint", ["games", "multiquery"])
def test_without_valid_headers_igdb_says_what_to_try(igdb: Post, endpoint: str) -> None:
    for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Client-ID": "wrong"}):
        answer = igdb(endpoint, "", **wrong)
        assert (answer.status_code, answer.json()["message"]) == (401, "Authorization Failure. Have you tried:")


def test_revoked_expired_and_superseded_tokens_are_refused(sandbox: Sandbox, igdb: Post, token: Post) -> None:
    def bearer() -> str:
        return f"Bearer {token().json()['access_token']}"

    sandbox.revoke_tokens()
    assert igdb("games", "").status_code == 401
    first = bearer()
    assert igdb("games", "", Authorization=first).status_code == 200
    sandbox.twitch.token_seconds = 0
    assert igdb("games", "", Authorization=bearer()).status_code == 401
    for _ in range(24):
        token()
    assert igdb("games", "", Authorization=first).status_code == 401, "of one application 25 tokens live"


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        pytest.param(
            'external_games fields uid,game; where external_game_source = 1 & uid = ("440","8930","999"); sort id asc;',
            [{"uid": "8930", "game": 866}, {"uid": "440", "game": 891}],
            id="apps of Steam by uid",
        ),
        pytest.param(
            'external_games fields game,external_game_source; where uid = "8930"; sort id asc;',
            [{"external_game_source": 1, "game": 866}, {"external_game_source": 5, "game": 1942}],
            id="other shops have the same uids",
        ),
        pytest.param('external_games fields uid,game; where uid = "365720";', [{"uid": "365720"}], id="without a game"),
        pytest.param(
            "games fields name,genres,cover; where id = 16;",
            [{"name": "Fallout: New Vegas", "genres": [5, 12], "cover": 85752}],
            id="bare references are ids",
        ),
        pytest.param(
            "games fields genres.slug,cover.image_id; where id = 16;",
            [
                {
                    "genres": [{"id": 5, "slug": "shooter"}, {"id": 12, "slug": "role-playing-rpg"}],
                    "cover": {"id": 85752, "image_id": "co1u60"},
                }
            ],
            id="expanded references are objects",
        ),
        pytest.param(
            'external_games fields game.genres.name; where uid = "440" & game.genres.slug = "shooter";',
            [{"game": {"id": 891, "genres": [{"id": 5, "name": "Shooter"}]}}],
            id="references of references",
        ),
        pytest.param("games fields cover.image_id; where id = 99;", [{"cover": 1}], id="to a row that is gone"),
        pytest.param("games fields summary,genres,storyline; where id = 99;", [{}], id="fields without a value"),
        pytest.param("games fields name; where id = 0;", [], id="nothing is like that"),
    ],
)
def test_rows_have_the_fields_that_are_asked_for(
    sandbox: Sandbox, igdb: Post, query: str, rows: list[dict[str, object]]
) -> None:
    sandbox.world.games[99] = {"id": 99, "cover": 1, "summary": None, "genres": []}
    endpoint, _, text = query.partition(" ")
    found = igdb(endpoint, text).json()
    assert [{name: row[name] for name in row if name != "id"} for row in found] == rows
    assert all("id" in row for row in found)


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


BAD_QUERIES = [
    pytest.param("fields nope;", 400, "Invalid Field", "Invalid field name: 'nope'", id="field"),
    pytest.param("fields genres.nope;", 400, "Invalid Field", "Invalid field name: 'genres.nope'", id="expanded field"),
    pytest.param("where nope = 1;", 400, "Invalid Field", "Invalid field name: 'nope'", id="compared field"),
    pytest.param("sort nope;", 400, "Invalid Field", "Invalid field name: 'nope'", id="sorted field"),
    pytest.param("fields id", 400, "Syntax Error", "Unexpected input at 'fields id'", id="syntax"),
    pytest.param('search "x";', 400, "Syntax Error", "'genres' cannot be searched", id="search"),
    pytest.param("where slug = (1,2);", 400, "Syntax Error", "Expecting a STRING as input", id="number for a text"),
    pytest.param("limit 501;", 403, "Request limit to high", "You typed in 501 as limit", id="limit"),
]


@pytest.mark.parametrize(("query", "status", "title", "cause"), BAD_QUERIES)
def test_a_bad_query_is_answered_with_a_list_alone_or_among_others(
    igdb: Post, query: str, status: int, title: str, cause: str
) -> None:
    table = "genres" if "search" in query else "games"
    for answer in (igdb(table, query), igdb("multiquery", named("Good") + named("Bad", query, table))):
        (error,) = answer.json()
        assert (answer.status_code, error["title"], error["status"]) == (status, title, status)
        assert error["cause"].startswith(cause)


def test_an_unknown_endpoint_is_refused(igdb: Post, client: httpx.Client, sandbox: Sandbox) -> None:
    answer = igdb("gamez", "fields name;")
    assert (answer.status_code, answer.text) == (404, "Endpoint POST /gamez not found")
    assert client.get(f"{sandbox.environment['IGDB_API_URL']}/games").status_code == 401
    for endpoint in ("gamez", "multiquery"):
        answer = igdb("multiquery", named("Good") + named("Bad", endpoint=endpoint))
        assert (answer.status_code, answer.json()[0]["title"]) == (400, "Syntax Error")


@pytest.mark.parametrize(
    ("size", "status", "title"),
    [
        (32_000, 200, None),
        (32_001, 413, "Content Too Large"),
        (39_999, 413, "Content Too Large"),
        (40_000, 413, "Request Too Large"),
    ],
)
@pytest.mark.parametrize("endpoint", ["games", "multiquery"])
def test_long_requests_are_refused(igdb: Post, endpoint: str, size: int, status: int, title: str | None) -> None:
    query = "limit 1;" if endpoint == "games" else named("Long")
    answer = igdb(endpoint, query.ljust(size))
    assert answer.status_code == status
    assert title is None or answer.json()["title"] == title


def test_long_responses_are_refused(sandbox: Sandbox, igdb: Post) -> None:
    for game in sandbox.world.games.values():
        game["summary"] = "x" * 100_000
    for limit, status in ((50, 200), (500, 413)):
        query = f"fields summary; limit {limit};"
        for answer in (igdb("games", query), igdb("multiquery", named("Games", query, "games"))):
            assert answer.status_code == status
            assert status == 200 or answer.json()[0]["title"] == "Payload Too Large"


def test_results_of_a_multiquery_come_in_order_under_their_names(igdb: Post) -> None:
    query = named("Shooter", "fields name; where id = 5;") + named("All", "", "genres/count")
    query += named("None", "fields name; where id = 0;") + named("Ten", "fields name;", "platforms")
    assert igdb("multiquery", query).json() == [
        {"name": "Shooter", "result": [{"id": 5, "name": "Shooter"}]},
        {"name": "All", "count": igdb("genres/count", "").json()["count"]},
        {"name": "None", "result": []},
        {"name": "Ten", "result": igdb("platforms", "fields name;").json()},
    ]


def test_a_multiquery_has_ten_queries_of_any_limit_and_eleven_are_too_many(igdb: Post) -> None:
    ten = "".join(named(str(number), "limit 20;", "external_games") for number in range(10))
    assert [len(one["result"]) for one in igdb("multiquery", ten).json()] == [20] * 10
    answer = igdb("multiquery", ten + named("Eleventh"))
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "title": "Too Many Concurrent queries",
            "details": "The maximum amount of concurrent request is at 10 queries",
        },
    )


def test_a_search_needs_all_words_and_can_be_narrowed_and_cut_but_not_sorted(igdb: Post) -> None:
    def found(query: str) -> list[str]:
        return [row["name"] for row in igdb("games", f"fields name; {query}").json()]

    assert found('search "MASS effect";') == ["Mass Effect", "Mass Effect 2", "Mass Effect Legendary Edition"]
    assert found('search "Mass Effect 2";') == ["Mass Effect 2"]
    assert found('search "Mass Effect 2 Deluxe";') == [], "more words than the title has"
    assert found('search "Mass Effect (2007)";') == []
    assert found('search "Life of Strange";') == ["Life is Strange"], "stop words are ignored"
    assert found('search "it is the";') == []
    assert found('search "mass effect"; sort id desc; limit 1; offset 1;') == ["Mass Effect 2"]
    assert found('search "mass effect"; where name != "Mass Effect";')[0] == "Mass Effect 2"


def test_a_search_in_a_multiquery_finds_nothing(igdb: Post) -> None:
    answer = igdb("multiquery", named("A", 'search "Mass Effect";', "games") + named("B", "where id = 73;", "games"))
    assert [(part["name"], len(part["result"])) for part in answer.json()] == [("A", 0), ("B", 1)]


def test_a_name_is_compared_without_case_and_without_wildcards(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.world.add_alternative_name(73, "ME 1")
    condition = 'name ~ "mass EFFECT 2" | name ~ "mass*" | alternative_names.name ~ "me 1"'
    rows = igdb("games", f"fields name; where {condition};").json()
    assert {row["name"] for row in rows} == {"Mass Effect", "Mass Effect 2"}
    assert igdb("games", 'fields name; where name = "mass effect";').json() == []


def test_a_search_knows_alternative_names(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.world.add_alternative_name(472, "TES 5")
    sandbox.world.add_alternative_name(472, "TESV")
    (game,) = igdb("games", 'search "tesv"; fields alternative_names.name; limit 1;').json()
    assert game == {"id": 472, "alternative_names": [{"id": 1, "name": "TES 5"}, {"id": 2, "name": "TESV"}]}


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
    assert list(found) == [row for row in world.games.values() if {5, 7} & set(row["genres"])]


def test_the_recorded_world_holds_together() -> None:
    world = World.recorded()
    referred = [row["game"] for row in world.external_games.values() if "game" in row]
    assert set(referred) <= world.games.keys()
    for game in world.games.values():
        assert set(game["genres"]) <= world.genres.keys()
        assert set(game["platforms"]) <= world.platforms.keys()
        assert game.get("cover", 85752) in world.covers


def test_a_synthetic_world_is_as_large_and_as_odd_as_asked_for_and_always_the_same() -> None:
    world = World.synthetic(120, owned=50, shared_every=4, ambiguous_every=10, bare_every=6)
    assert len(world.accounts[World.SYNTHETIC_ACCOUNT].games) == 50
    assert len(world.store) == 120
    games = [row.get("game") for row in world.external_games.values()]
    assert games.count(None) == 20
    assert set(games) - {None} == set(world.games)
    uids = [row["uid"] for row in world.external_games.values()]
    assert sorted({int(uid) for uid in uids if uids.count(uid) > 1}) == [
        1_000_000 + 10 * number for number in range(9, 120, 10)
    ]
    assert world == World.synthetic(120, owned=50, shared_every=4, ambiguous_every=10, bare_every=6)
