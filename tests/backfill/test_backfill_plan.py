"""The plan of a backfill: its id, its shards, and what it will cost."""

import pytest

from pipeline.backfill.plan import Estimate, estimate_cost, find_plan
from pipeline.backfill.report import write_report
from pipeline.errors import Refused
from pipeline.settings import Settings
from tests.support.backfills import plan_backfill
from tests.support.stores import Memory

LIST = b"user_id,steam_id64\none,76561197960287930\ntwo,76561197960287931\n"


def test_workers_who_plan_a_list_at_the_same_time_share_one_run() -> None:
    store = Memory()
    first = plan_backfill(store, LIST, size=1)
    assert plan_backfill(store, LIST, size=1) == first
    assert first.shards == 2
    write_report(store, first)  # it is not complete
    assert plan_backfill(store, LIST, size=1).run_id == first.run_id


def test_a_run_belongs_to_its_list_and_its_size_of_shards() -> None:
    store = Memory()
    first = plan_backfill(store, LIST, "run", size=1)
    for body, size in ((LIST.replace(b"two", b"three"), 1), (LIST, 2)):
        with pytest.raises(Refused, match="another list"):
            plan_backfill(store, body, "run", size)
    assert find_plan(store, "run") == first


def test_more_shards_than_can_be_numbered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backfill.plan.MAX_SHARDS", 1)
    with pytest.raises(Refused, match=r"2 users make more than 1 shards of 1\. .*--shard-size"):
        plan_backfill(Memory(), LIST, size=1)


@pytest.mark.parametrize(
    ("users", "known_apps", "expected"),
    [
        (100, 20_000, Estimate(100, 10.0, 0, 0.0)),
        (10, 0, Estimate(10, 1.0, 9, 2.5)),
        (0, 0, Estimate(0, 0.0, 0, 0.0)),
        (250_000, 200_000, Estimate(250_000, 2 * 86_400 + 5_000.0, 0, 0.0)),
    ],
)
def test_the_cost_of_a_backfill_follows_from_the_rates_in_the_settings(
    users: int, known_apps: int, expected: Estimate
) -> None:
    assert estimate_cost(Settings.model_validate({}), users, known_apps) == expected
