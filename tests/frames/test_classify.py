from datetime import UTC, datetime
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.classify import classify, is_game, parse_store_items
from schemas.catalogue import KIND_OF_STORE_TYPE, STORE_TYPES, Catalogue, Overrides, StoreTypes
from schemas.frames import conform
from schemas.library import ENRICHED_KINDS, KINDS, ClassifiedLibrary, RawLibrary
from tests.support.libraries import frame

AMBIGUOUS = {"match_reason": "ambiguous", "igdb_id": None}
ASKED_AT = datetime(2026, 11, 23, tzinfo=UTC)


def named(*names: str | None) -> DataFrame[RawLibrary]:
    """A library of apps 1, 2, … with these names."""
    owner = {"user_id": "user-1", "steam_id64": "76561197960287930", "playtime_forever": 0}
    return frame(RawLibrary, [{**owner, "appid": n, "name": name} for n, name in enumerate(names, start=1)])


def known(*types: str | None) -> DataFrame[Catalogue]:
    """A catalogue of these store types of apps 1, 2, …"""
    return frame(
        Catalogue,
        [{"appid": n, "store_type": type_, "store_asked_at": ASKED_AT} for n, type_ in enumerate(types, start=1)],
    )


def overriding(*actions: str | None) -> DataFrame[Overrides]:
    """Overrides of apps 1, 2, … by these actions, none where it is None."""
    rows = [(n, action, 72 if action == "match" else None) for n, action in enumerate(actions, start=1) if action]
    return frame(Overrides, rows)


Case = tuple[str | None, str | None, str | None, str, str]
"""An app's name, its type in the store and the action of its override, then its kind and what decides it."""

CASES: list[Case] = [
    # Without a type in the store the name decides.
    ("Call of Duty: Modern Warfare 2 - Multiplayer", None, None, "multiplayer_component", "name:multiplayer"),
    ("A Game - DLC", None, None, "dlc", "name:dlc"),
    ("A Game - Demo", None, None, "demo", "name:demo"),
    ("Half-Life", None, None, "game", "default"),
    ("", None, None, "game", "default"),
    (None, None, None, "game", "default"),
    # Against the type game it only tells tests and components.
    ("Conan Exiles - Public Beta Client", "game", None, "beta", "name:beta"),
    ("The Stress Test", "game", None, "game", "store:game"),
    ("Call of Duty: Ghosts - Multiplayer", "game", None, "multiplayer_component", "name:multiplayer"),
    ("A Game - Demo", "game", None, "game", "store:game"),
    (None, "game", None, "game", "store:game"),
    # Any other type wins over the name.
    *(
        (name, store_type, None, kind, f"store:{store_type}")
        for store_type, kind in KIND_OF_STORE_TYPE.items()
        for name in ("Half-Life", "Half-Life - Demo")
        if store_type != "game"
    ),
    # An override wins over both; an ignored app keeps its kind.
    *(
        ("A Game - Playtest", store_type, action, "game", "override")
        for store_type in (None, "game", "demo")
        for action in ("match", "game")
    ),
    ("A Game - Demo", "demo", "ignore", "demo", "store:demo"),
    ("Half-Life", None, "ignore", "game", "default"),
]


def test_overrides_store_and_names_decide_in_this_order() -> None:
    names, types, actions, *_ = zip(*CASES, strict=True)
    decided = classify(named(*names), known(*types), overriding(*actions))
    ClassifiedLibrary.validate(decided)
    assert decided.drop("kind", "kind_reason").equals(named(*names))
    assert list(zip(names, types, actions, decided["kind"], decided["kind_reason"], strict=True)) == CASES


def test_an_app_that_a_library_has_twice_is_decided_by_each_of_its_names_and_an_empty_library_has_no_rows() -> None:
    listed = [{"appid": 1, "match_reason": "external_game", "igdb_id": 7, "igdb_name": "X"}]
    twice = conform(pl.concat([named("X Demo", "Y Demo"), named("Another Trailer")]), RawLibrary)
    classified = classify(twice, frame(Catalogue, listed), overriding())
    assert classified["kind_reason"].to_list() == ["name:demo", "name:demo", "igdb"]
    assert classify(named(), frame(Catalogue, listed), overriding()).is_empty()


LISTED: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "a game that is called so": ("Two Trailers: The Trailer", "Two Trailers: The Trailer", {}, "igdb"),
    "a game of another name": ("A Trailer Trailer", "Another name", {}, "igdb"),
    "under its parent": ("X Demo", "X", {}, "name:demo"),
    "under its parent, folded": ("X™ II (Demo)", "x 2", {}, "name:demo"),
    "a test under its parent": ("X - Playtest", "X", {}, "name:playtest"),
    "a soundtrack under its parent": ("X Soundtrack", "X", {}, "name:soundtrack"),
    "only the words of the rule are taken off": ("X Soundtrack Demo", "X Soundtrack", {}, "name:demo"),
    "not the words of other rules": ("X Soundtrack Demo", "X", {}, "igdb"),
    "DLC": ("X DLC", "Any", {"igdb_game_type": 1}, "name:dlc"),
    "a pack": ("X Map Pack", "Any", {"igdb_game_type": 13}, "name:pack"),
    "an update": ("X Server", "Any", {"igdb_game_type": 14}, "name:server"),
    "a bundle": ("X Server", "Any", {"igdb_game_type": 3}, "name:server"),
    "a mod": ("X Server", "Any", {"igdb_game_type": 5}, "igdb"),
    "a test server under its parent": ("X Public Test Server", "X", {}, "name:beta"),
    "of an edition of its parent": ("X: Deluxe Edition Soundtrack", "X", {}, "name:soundtrack"),
    "under an edition of its parent": ("X Soundtrack", "X: GOTY", {}, "name:soundtrack"),
    "one of several games": ("X Demo", "Y", AMBIGUOUS, "igdb"),
    "one of several games, its parent among them": ("X Demo", "X", AMBIGUOUS, "name:demo"),
    "several DLC": ("X DLC", "Y", AMBIGUOUS | {"igdb_game_type": 1}, "name:dlc"),
    "a game without a name": ("X Demo", None, {}, "name:demo"),
    "no game": ("X Demo", None, {"match_reason": "igdb_incomplete", "igdb_id": None}, "name:demo"),
    "not listed": ("X Demo", None, {"match_reason": "not_found", "igdb_id": None}, "name:demo"),
    "by an override of the past": ("X Demo", "Y", {"match_reason": "override"}, "name:demo"),
    "no rule": ("X", "X", {}, "default"),
}
"""Names, the names of the games that IGDB lists them as, other columns of the catalogue, and what decides."""


def test_igdbs_list_of_games_wins_over_a_rule_about_the_name() -> None:
    listed = [
        {"appid": n, "match_reason": "external_game", "igdb_id": 7, "igdb_name": igdb_name} | columns
        for n, (_, igdb_name, columns, _) in enumerate(LISTED.values(), start=1)
    ]
    classified = classify(named(*(name for name, *_ in LISTED.values())), frame(Catalogue, listed), overriding())
    expected = [reason for *_, reason in LISTED.values()]
    assert dict(zip(LISTED, classified["kind_reason"], strict=True)) == dict(zip(LISTED, expected, strict=True))
    assert (classified["kind"] == "game").to_list() == [not reason.startswith("name:") for reason in expected]


BESIDE_RULE = [
    ("Conan Exiles - Public Beta Client", "Conan Exiles", "name:beta"),
    ("Conan Exiles - Public Beta Dedicated Server", "Conan Exiles", "name:beta"),
    ("Scribble Wolf (Open Beta Test)", "Scribble Wolf", "name:beta"),
    ("Marathon Closed Technical Test", "Marathon", "name:beta"),
    ("Doors Closed Playtest", "Doors", "name:playtest"),
    ("Doors Closed Playtest", "Doors Closed", "name:playtest"),
    ("Bounters Playtest Server", "Bounters", "name:playtest"),
    ("X Playtest 2", "X", "name:playtest"),
    ("X 2 Playtest", "X II", "name:playtest"),
    ("X Closed Alpha Playtest", "X", "name:playtest"),
    ("X Soundtrack Vol. 1", "X", "name:soundtrack"),
    ("X - Original Soundtrack (Digital)", "X", "name:soundtrack"),
    ("X Closed Playtest", "Y", "igdb"),
    ("X Closed Playtest", "X Closed Playtest", "igdb"),
    ("Xylophone Playtest", "X", "igdb"),
    ("X Arena Playtest", "X", "igdb"),
]
"""Names, the names of the games that IGDB lists them as, and what decides."""


def test_a_rule_stands_where_only_words_of_tests_are_left_beside_the_parents_name() -> None:
    names, parents, reasons = zip(*BESIDE_RULE, strict=True)
    columns = {"match_reason": "external_game", "igdb_id": 7}
    listed = [{"appid": n, "igdb_name": parent, **columns} for n, parent in enumerate(parents, start=1)]
    decided = classify(named(*names), frame(Catalogue, listed), overriding())["kind_reason"]
    assert list(zip(names, parents, decided, strict=True)) == list(zip(names, parents, reasons, strict=True))


def test_a_store_type_wins_over_igdb_and_igdb_over_the_rules_that_hold_against_the_store_type_game() -> None:
    listed = {"match_reason": "external_game", "igdb_id": 7, "igdb_name": "Y"}
    types = [{"appid": n, "store_type": type_, **listed} for n, type_ in enumerate(("game", "beta"), start=1)]
    classified = classify(named("X Playtest", "X Playtest"), frame(Catalogue, types), overriding())
    assert classified["kind_reason"].to_list() == ["igdb", "store:beta"]


def item(appid: Any, **fields: Any) -> dict[str, Any]:
    return {"id": appid, "success": 1, "type": 0, "name": "Any", **fields}


def test_a_type_is_believed_only_with_success() -> None:
    good = [item(n, type=n - 1) for n in range(1, 1 + len(STORE_TYPES))]
    bad = [
        item(101, success=15),  # delisted
        item(102, success=2),
        {"id": 103, "type": 0},
        {"id": 104, "success": 1},
        item(105, type=15),  # a type of the future
        item(106, type=-1),
    ]
    expected = [*enumerate(STORE_TYPES, start=1), *((row["id"], None) for row in bad)]
    assert StoreTypes.validate(parse_store_items(good + bad)).rows() == expected


def test_invalid_rows_are_left_out_and_the_others_stay() -> None:
    invalid = ["rubbish", None, {"success": 1, "type": 0}, item(0), item(2**31), item("1"), item(1, type="game")]
    rows = [*invalid, item(2, type=4), item(2, type=1)]
    assert StoreTypes.validate(parse_store_items(rows)).rows() == [(2, "demo")], "the last of two counts"


def test_only_games_and_mods_are_looked_up() -> None:
    kinds = pl.DataFrame({"kind": KINDS}, schema={"kind": pl.Enum(KINDS)})
    assert tuple(kinds.filter(is_game())["kind"]) == ENRICHED_KINDS == ("game", "mod")
