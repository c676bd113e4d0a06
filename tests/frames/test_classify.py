from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
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


def overriding(*actions: str) -> DataFrame[Overrides]:
    """Overrides of apps 1, 2, … by these actions."""
    rows = [(n, action, 72 if action == "match" else None) for n, action in enumerate(actions, start=1)]
    return frame(Overrides, rows)


def decision(name: str | None, store_type: str | None = None, action: str | None = None) -> tuple[str, str]:
    """The kind of an app, and what decided it."""
    overrides = overriding(action) if action else overriding()
    (row,) = classify(named(name), known(store_type), overrides).select("kind", "kind_reason").rows()
    return row


@pytest.mark.parametrize(
    ("name", "kind", "kind_reason"),
    [
        ("Call of Duty: Modern Warfare 2 - Multiplayer", "multiplayer_component", "name:multiplayer"),
        ("A Game - DLC", "dlc", "name:dlc"),
        ("A Game - Demo", "demo", "name:demo"),
        ("Half-Life", "game", "default"),
        ("", "game", "default"),
        (None, "game", "default"),
    ],
)
def test_without_a_store_type_the_name_decides(name: str | None, kind: str, kind_reason: str) -> None:
    assert decision(name) == (kind, kind_reason)


@pytest.mark.parametrize("store_type", [type_ for type_ in STORE_TYPES if type_ != "game"])
def test_a_store_type_other_than_game_wins_over_the_name(store_type: str) -> None:
    expected = (KIND_OF_STORE_TYPE[store_type], f"store:{store_type}")
    assert decision("Half-Life", store_type) == decision("Half-Life - Demo", store_type) == expected


@pytest.mark.parametrize(
    ("name", "kind", "kind_reason"),
    [
        ("Conan Exiles - Public Beta Client", "beta", "name:beta"),
        ("The Stress Test", "game", "store:game"),
        ("Call of Duty: Ghosts - Multiplayer", "multiplayer_component", "name:multiplayer"),
        ("A Game - Demo", "game", "store:game"),
        ("Half-Life", "game", "store:game"),
        (None, "game", "store:game"),
    ],
)
def test_against_the_store_type_game_the_name_only_tells_tests_and_components(
    name: str | None, kind: str, kind_reason: str
) -> None:
    assert decision(name, "game") == (kind, kind_reason)


@pytest.mark.parametrize(
    ("name", "igdb_name", "columns", "kind_reason"),
    [
        pytest.param(
            "Two Trailers: The Trailer", "Two Trailers: The Trailer", {}, "igdb", id="a game that is called so"
        ),
        pytest.param("A Trailer Trailer", "Another name", {}, "igdb", id="a game of another name"),
        pytest.param("X Demo", "X", {}, "name:demo", id="under its parent"),
        pytest.param("X™ II (Demo)", "x 2", {}, "name:demo", id="under its parent, folded"),
        pytest.param("X - Playtest", "X", {}, "name:playtest", id="a test under its parent"),
        pytest.param("X Soundtrack", "X", {}, "name:soundtrack", id="a soundtrack under its parent"),
        pytest.param(
            "X Soundtrack Demo", "X Soundtrack", {}, "name:demo", id="only the words of the rule are taken off"
        ),
        pytest.param("X Soundtrack Demo", "X", {}, "igdb", id="not the words of other rules"),
        pytest.param("X DLC", "Any", {"igdb_game_type": 1}, "name:dlc", id="DLC"),
        pytest.param("X Map Pack", "Any", {"igdb_game_type": 13}, "name:pack", id="a pack"),
        pytest.param("X Server", "Any", {"igdb_game_type": 14}, "name:server", id="an update"),
        pytest.param("X Server", "Any", {"igdb_game_type": 3}, "name:server", id="a bundle"),
        pytest.param("X Server", "Any", {"igdb_game_type": 5}, "igdb", id="a mod"),
        pytest.param("X Public Test Server", "X", {}, "name:beta", id="a test server under its parent"),
        pytest.param("X: Deluxe Edition Soundtrack", "X", {}, "name:soundtrack", id="of an edition of its parent"),
        pytest.param("X Soundtrack", "X: GOTY", {}, "name:soundtrack", id="under an edition of its parent"),
        pytest.param("X Demo", "Y", AMBIGUOUS, "igdb", id="one of several games"),
        pytest.param("X Demo", "X", AMBIGUOUS, "name:demo", id="one of several games, its parent among them"),
        pytest.param("X DLC", "Y", AMBIGUOUS | {"igdb_game_type": 1}, "name:dlc", id="several DLC"),
        pytest.param("X Demo", None, {}, "name:demo", id="a game without a name"),
        pytest.param("X Demo", None, {"match_reason": "igdb_incomplete", "igdb_id": None}, "name:demo", id="no game"),
        pytest.param("X Demo", None, {"match_reason": "not_found", "igdb_id": None}, "name:demo", id="not listed"),
        pytest.param("X Demo", "Y", {"match_reason": "override"}, "name:demo", id="by an override of the past"),
        pytest.param("X", "X", {}, "default", id="no rule"),
    ],
)
def test_igdbs_list_of_games_wins_over_a_rule_about_the_name(
    name: str, igdb_name: str | None, columns: dict[str, Any], kind_reason: str
) -> None:
    listed = {"appid": 1, "match_reason": "external_game", "igdb_id": 7, "igdb_name": igdb_name} | columns
    library = conform(pl.concat([named(name), named("First", name).tail(1)]), RawLibrary)
    classified = classify(library, frame(Catalogue, [listed, listed | {"appid": 2}]), overriding())
    assert classified["kind_reason"].to_list() == [kind_reason] * 2
    assert classified["kind"].is_in(["game"]).to_list() == [not kind_reason.startswith("name:")] * 2


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


@pytest.mark.parametrize("action", ["match", "game"])
@pytest.mark.parametrize("store_type", [None, "game", "demo"])
def test_an_override_wins_over_store_type_and_name(action: str, store_type: str | None) -> None:
    assert decision("A Game - Playtest", store_type, action) == ("game", "override")


def test_an_app_that_an_override_ignores_keeps_its_kind() -> None:
    assert decision("A Game - Demo", "demo", "ignore") == ("demo", "store:demo")
    assert decision("Half-Life", None, "ignore") == ("game", "default")


def test_each_app_is_decided_by_its_own_authority() -> None:
    classified = classify(named("One", "Two", "Three - Demo"), known("game", "music"), overriding("ignore", "game"))
    assert classified["kind_reason"].to_list() == ["store:game", "override", "name:demo"]


def test_a_classified_library_is_the_raw_one_with_two_columns_more() -> None:
    for library in (conform(pl.concat([named("Half-Life", "A Demo"), named("Owned twice")]), RawLibrary), named()):
        classified = ClassifiedLibrary.validate(classify(library, known("game"), overriding("game")))
        assert classified.drop("kind", "kind_reason").equals(library)


def item(appid: Any, **fields: Any) -> dict[str, Any]:
    return {"id": appid, "success": 1, "type": 0, "name": "Any", **fields}


@pytest.mark.parametrize(
    ("row", "store_type"),
    [pytest.param(item(1, type=number), type_, id=type_) for number, type_ in enumerate(STORE_TYPES)]
    + [
        pytest.param(item(1, success=15), None, id="delisted"),
        pytest.param(item(1, success=2), None, id="failed"),
        pytest.param({"id": 1, "type": 0}, None, id="no success"),
        pytest.param({"id": 1, "success": 1}, None, id="no type"),
        pytest.param(item(1, type=15), None, id="a type of the future"),
        pytest.param(item(1, type=-1), None, id="a negative type"),
    ],
)
def test_a_type_is_believed_only_with_success(row: dict[str, Any], store_type: str | None) -> None:
    assert StoreTypes.validate(parse_store_items([row])).rows() == [(1, store_type)]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("rubbish", id="no object"),
        pytest.param(None, id="nothing"),
        pytest.param({"success": 1, "type": 0}, id="no id"),
        pytest.param(item(0), id="0"),
        pytest.param(item(-1), id="negative"),
        pytest.param(item(2**31), id="above int32"),
        pytest.param(item("1"), id="text for an id"),
        pytest.param(item(1, type="game"), id="text for a type"),
        pytest.param(item(1, success=None), id="null for success"),
    ],
)
def test_an_invalid_row_is_left_out_and_the_others_stay(row: Any) -> None:
    rows = [row, item(2, type=4), item(2, type=1)]
    assert StoreTypes.validate(parse_store_items(rows)).rows() == [(2, "demo")], "the last of two counts"


def test_only_games_and_mods_are_looked_up() -> None:
    kinds = pl.DataFrame({"kind": KINDS}, schema={"kind": pl.Enum(KINDS)})
    assert tuple(kinds.filter(is_game())["kind"]) == ENRICHED_KINDS == ("game", "mod")
