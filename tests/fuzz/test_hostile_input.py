"""Hostile input of each kind ends in a result or in an error of ours."""

import contextlib
from random import Random

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.frames.match import parse_external_games
from pipeline.review.candidates import parse_found_games
from tests.hostile import KINDS

QUICK = {
    "steam ids and URLs": 100,
    "events": 100,
    "locations": 60,
    "overrides": 60,
    "review sheets": 60,
    "manifests": 40,
}
SLOW = 8
"""Inputs of the kinds that run a stage or check frames."""


@pytest.fixture(autouse=True)
def _silence() -> None:
    structlog.reset_defaults()


@pytest.mark.parametrize("name", KINDS)
def test_hostile_input_ends_in_a_result_or_in_an_error_of_ours(name: str) -> None:
    kind = KINDS[name]

    @settings(
        max_examples=QUICK.get(name, SLOW),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32).map(Random))
    def holds(random: Random) -> None:
        with contextlib.suppress(PipelineError):
            kind.take(kind.make(random))

    holds()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.text())
def test_any_text_is_a_steam_id_or_refused(text: str) -> None:
    with contextlib.suppress(PipelineError):
        KINDS["steam ids and URLs"].take(text)
        KINDS["locations"].take(text)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.binary())
@pytest.mark.parametrize("name", ["overrides", "review sheets", "manifests", "CSVs", "catalogue files"])
def test_any_bytes_are_a_file_or_refused(name: str, body: bytes) -> None:
    with contextlib.suppress(PipelineError):
        KINDS[name].take(body)


def test_half_a_surrogate_pair_spoils_its_row_or_its_name_alone() -> None:
    rows = [{"uid": "\ud800", "game": 1}, {"uid": "620", "game": 72}]
    assert parse_external_games(rows).rows() == [(620, 72)]
    named = [{"id": 72, "name": "Portal 2", "alternative_names": [{"id": 1, "name": "P\udfff"}]}]
    assert parse_found_games({620: named})["other_names"].to_list() == [["P?"]]
