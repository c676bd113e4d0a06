"""A second import, some weeks after the first: what IGDB and the owner changed meanwhile."""

from tests.support.databases import execute, fetch, load, rows_of
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, matched

BEFORE = (
    matched(10, 100, igdb_slug="a", igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS], playtime_forever=5),
    matched(11, 101, igdb_slug="b", igdb_genres=[SHOOTER]),
    matched(12, 102, igdb_slug="merged", igdb_name="Merged"),
    matched(13, 103, igdb_slug="merged-1", igdb_name="Merged"),
    matched(14, 104, igdb_slug="gone"),
    matched(15, 105, igdb_slug="left"),
    app(16),
    app(17),
)
RENAMED = [{**FIGHTING, "name": "Shooter", "slug": "shooter"}, {**SHOOTER, "name": "Fighting", "slug": "fighting"}]
AFTER = (
    matched(10, 100, igdb_slug="b", igdb_name="New title", igdb_genres=RENAMED, igdb_platforms=[WINDOWS]),
    matched(11, 101, igdb_slug="a", igdb_genres=[RENAMED[1]], playtime_forever=7),
    # IGDB made one entry of the two: 102 is no more, and 103 has its slug.
    matched(12, 103, igdb_slug="merged", igdb_name="Merged"),
    matched(13, 103, igdb_slug="merged", igdb_name="Merged"),
    # IGDB made the entry again under another id.
    matched(14, 204, igdb_slug="gone"),
    # A game that is not in the library any more holds this slug: 15 was returned.
    matched(18, 108, igdb_slug="left"),
    matched(16, 106),
)
LINKS = """
SELECT game."igdbId" AS game, genre."igdbId" AS genre
FROM "GameGenre" JOIN "Game" game ON game.id = "gameId" JOIN "Genre" genre ON genre.id = "genreId" ORDER BY 1, 2
"""


def test_a_second_import_says_the_new_truth_and_a_third_changes_nothing(database_url: str) -> None:
    load(database_url, *BEFORE)
    execute(database_url, """DELETE FROM "LibraryItem" i USING "Game" g WHERE g.id = i."gameId" AND g.slug = 'b'""")

    counts = load(database_url, *AFTER).counts

    assert rows_of(database_url, "Game", '"igdbId", title, slug, "steamAppId"') == [
        (100, "New title", "b", 10),
        (101, "Game 101", "a", 11),
        (102, "Merged", "merged-igdb-102", 12),
        (103, "Merged", "merged", 13),
        (105, "Game 105", "left-igdb-105", 15),
        (106, "Game 106", "game-106", 16),
        (108, "Game 108", "left", 18),
        (204, "Game 204", "gone", 14),
    ]
    assert fetch(database_url, 'SELECT "igdbId", name, slug FROM "Genre" ORDER BY 1').rows() == [
        (4, "Shooter", "shooter"),
        (5, "Fighting", "fighting"),
    ]
    assert fetch(database_url, LINKS).rows() == [(100, 4), (100, 5), (101, 5)]
    imports = '"storefrontGameId"::int, playtime, "igdbMatchStatus"::text'
    assert rows_of(database_url, "ImportedGame", imports) == [
        (10, 5, "MATCHED"),
        (11, 7, "MATCHED"),
        (12, 0, "MATCHED"),
        (13, 0, "MATCHED"),
        (14, 0, "MATCHED"),
        (15, 0, "MATCHED"),
        (16, 0, "MATCHED"),
        (17, 0, "UNMATCHED"),
        (18, 0, "MATCHED"),
    ]
    items = 'SELECT g."igdbId" FROM "LibraryItem" JOIN "Game" g ON g.id = "gameId" ORDER BY 1'
    assert fetch(database_url, items).to_series().to_list() == [100, 102, 103, 105, 106, 108, 204]
    expected = {"games_adopted": 1, "games_with_taken_slug": 2, "no_longer_owned": 2, "library_items_created": 2}
    assert {name: counts[name] for name in expected} == expected

    again = load(database_url, *AFTER)
    assert again.tables.select("created", "updated", "removed").sum().row(0) == (0, 0, 0)
    assert again.counts["games_with_taken_slug"] == 0
