from collections.abc import Callable

import httpx
import pytest

from pipeline.sandbox.server import Sandbox

Post = Callable[..., httpx.Response]


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


def test_a_word_of_very_many_names_does_not_find_them_all(sandbox: Sandbox, igdb: Post) -> None:
    for number in range(2_100):
        sandbox.world.add_game(number, 10_000_000 + number, f"Common {number}")
    assert found_names(igdb, 'search "Common 77";') == ["Common 77"]
    assert len(found_names(igdb, 'search "Common"; limit 500;')) == 500


def test_only_games_can_be_searched(igdb: Post) -> None:
    answer = igdb("genres", 'search "Shooter";')
    assert (answer.status_code, answer.json()[0]["title"]) == (400, "Syntax Error")


def test_ten_names_are_searched_at_once(igdb: Post) -> None:
    names = ["Terraria", "Rust", "Hades", "Dota 2", "Spore", "Banana", "Frostpunk", "Warframe", "Toribash", "Unturned"]
    query = "".join(named(name, f'search "{name}"; fields name; limit 5;', "games") for name in names)
    found = igdb("multiquery", query).json()
    assert [one["name"] for one in found] == names
    assert found[0]["result"][0]["name"] == "Terraria"
