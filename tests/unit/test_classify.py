import polars as pl
import pytest

from pipeline.frames.classify import classify, looked_up
from schemas.frames import KINDS, ClassifiedLibrary, RawLibrary

SCHEMA = {name: column.dtype.type for name, column in RawLibrary.to_schema().columns.items()}


def named(*names: str | None) -> pl.DataFrame:
    owner = {"user_id": "user-1", "steam_id64": "76561197960287930", "playtime_forever": 0}
    return pl.DataFrame([{**owner, "appid": n + 1, "name": name} for n, name in enumerate(names)], schema=SCHEMA)


@pytest.mark.parametrize(
    ("name", "kind", "kind_reason"),
    [
        ("Call of Duty: Modern Warfare 2 - Multiplayer", "multiplayer_component", "name:multiplayer"),
        ("Call of Duty: Modern Warfare 3 - Multi-Player", "multiplayer_component", "name:multiplayer"),
        ("SHOUTED - MULTIPLAYER", "multiplayer_component", "name:multiplayer"),
        ("A Game - Multiplayer (Beta)", "multiplayer_component", "name:multiplayer"),
        ("A Game - DLC", "dlc", "name:dlc"),
        ("a game - dlc 2", "dlc", "name:dlc"),
        ("A Game Season Pass", "dlc", "name:dlc"),
        ("Season Pass: A Game", "dlc", "name:dlc"),
        ("A Game: The Expansion", "dlc", "name:dlc"),
        ("A Game - Demo", "demo", "name:demo"),
        ("A Game - Soundtrack", "soundtrack", "name:soundtrack"),
        ("A Game Level Editor", "tool", "name:editor"),
        ("A Game - DLC - Soundtrack", "dlc", "name:dlc"),
        ("A Game - Soundtrack Editor", "soundtrack", "name:soundtrack"),
        ("Half-Life", "game", "default"),
        ("Multiplayer Madness", "game", "default"),
        ("A Game - Multiplayers", "game", "default"),
        ("DLC Quest", "game", "default"),
        ("A Game - DLCs", "game", "default"),
        ("Demolition - Derby", "game", "default"),
        ("A Game - Demolition", "game", "default"),
        ("Expansionist", "game", "default"),
        ("Reasonseason Passage", "game", "default"),
        ("A Game - Soundtracks", "game", "default"),
        ("Creditor", "game", "default"),
        ("Editors' Choice", "game", "default"),
        ("", "game", "default"),
        (None, "game", "default"),
    ],
)
def test_the_name_says_what_an_app_is(name: str | None, kind: str, kind_reason: str) -> None:
    (row,) = classify(named(name)).select("kind", "kind_reason").rows()
    assert row == (kind, kind_reason)


def test_a_classified_library_is_the_raw_one_with_two_columns_more() -> None:
    library = named("Half-Life", "A Game - Demo")
    classified = ClassifiedLibrary.validate(classify(library))
    assert classified.drop("kind", "kind_reason").equals(library)


def test_an_empty_library_is_classified_too() -> None:
    assert ClassifiedLibrary.validate(classify(named())).is_empty()


def test_only_games_and_mods_are_looked_up() -> None:
    kinds = pl.DataFrame({"kind": KINDS}, schema={"kind": pl.Enum(KINDS)})
    assert kinds.filter(looked_up())["kind"].to_list() == ["game", "mod"]
