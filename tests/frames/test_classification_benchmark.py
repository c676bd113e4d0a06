from pathlib import Path

import polars as pl
import pytest

from benchmarks.classification import judge, show_held_out, show_listed

pytestmark = pytest.mark.slow

SHAPES = {"game": "Game {}", "demo": "Game {} Demo", "music": "Game {} Soundtrack", "beta": "Game {} Playtest"}


def apps(**more: list[str]) -> pl.DataFrame:
    """Apps with their types: 40 of each of four types, and more names of some."""
    rows = [(type_, shape.format(f"No. {n}")) for type_, shape in SHAPES.items() for n in range(40)]
    rows += [(type_, name) for type_, names in more.items() for name in names]
    return pl.DataFrame(rows, schema=["type", "name"], orient="row").with_row_index("appid", offset=1)


def pairs(types: pl.DataFrame, games: dict[str, str]) -> pl.DataFrame:
    """The names of the games that IGDB lists apps as."""
    listed = types.filter(pl.col("name").is_in(list(games)))
    return listed.select("appid", igdb_id=pl.col("appid"), name=pl.col("name").replace_strict(games))


def test_held_out_apps_are_judged_by_the_patterns_that_have_evidence_among_the_others() -> None:
    few = [f"Game {n} Beta" for n in range(5)]
    many = [f"Game {n} Server" for n in range(60)]
    types = apps(beta=few, tool=many, game=["A Game of its own: The Dedicated Server"])
    assert show_held_out(types) == [
        "Held out: 88.89 % of beta found, not 96.0 %",
        "2.4390 % of games lost, more than 0.05 %",
    ]


def test_an_app_that_igdb_lists_is_lost_only_where_it_is_no_test_of_the_listed_game(
    capsys: pytest.CaptureFixture[str],
) -> None:
    types = apps(game=["A Trailer Trailer"], beta=["X Closed Playtest 2"])
    listed = {"A Trailer Trailer": "A Trailer Trailer", "X Closed Playtest 2": "X", "Game No. 1": "Game No. 1"}
    assert show_listed(types, pairs(types, listed)) == []
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 apps that IGDB lists, without a store type: 1 are games though" in shown
    assert "1 stand under their parents and are filtered, 0 games are lost" in shown


def test_what_is_not_judged_for_want_of_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "app_types.parquet"
    (nothing,) = judge(path)[1]
    assert f"{path} is not there" in nothing
    apps().write_parquet(path)
    missed, (what,) = judge(path)
    assert f"{tmp_path / 'steam_igdb_games.parquet'} is not there" in what
    assert all("evidence" in target or "are less than" in target for target in missed), "all else is met"
    assert "soundtrack: the evidence is '40 music; no game', not '5,284 music, 36 dlc; no game'" in missed
