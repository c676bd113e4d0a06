"""The three stages as they are deployed: settings in the environment, sandbox APIs, a bucket, a small library."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import polars as pl
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from schemas.frames import TIME_FORMAT
from tests.support.libraries import FIGHTING, WINDOWS, app, library, matched
from tests.support.programs import QUICK_SETTINGS, Configure
from tests.support.stores import BUCKET, REGION, local_s3, s3_client

ACCOUNT = World.SYNTHETIC_ACCOUNT
USER = "user-1"
SOUNDTRACK_TYPE = 11

NOWHERE = "http://127.0.0.1:1"
"""Where nobody listens."""

RAW = f"s3://{BUCKET}/imports/{USER}/20261123T031749Z-raw.csv"
ENRICHED = RAW.replace("-raw", "-enriched")

RAW_CSV = (
    "user_id,steam_id64,appid,name,playtime_forever,playtime_2weeks,playtime_windows_forever,playtime_mac_forever,"
    "playtime_linux_forever,playtime_deck_forever,rtime_last_played,img_icon_url\n"
    f"{USER},{ACCOUNT},620,Portal 2,90,,90,0,0,0,2026-11-20T20:15:00Z,{620:040x}\n"
)

Handler = Callable[[object, object], dict[str, Any]]


class Remaining(NamedTuple):
    """Of Lambda's context, how much time an invocation has."""

    seconds: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def small_world() -> World:
    """Four apps of one account: two that IGDB knows, one that it does not, and a soundtrack."""
    world = World.synthetic(0)
    world.accounts[ACCOUNT].vanity = "four-apps"
    world.add_owned(ACCOUNT, 620, "Portal 2", playtime_forever=90)
    world.add_owned(ACCOUNT, 400, "Portal")
    world.add_owned(ACCOUNT, 999_010, "Nobody Knows Me")
    world.add_owned(ACCOUNT, 999_020, "Portal 2 - Soundtrack")
    world.add_game(620, 72, "Portal 2", genres=[8, 9], platforms=[6, 14], summary="Cubes.", image_id="co1rs4")
    world.add_game(400, 71, "Portal", genres=[9], platforms=[6])
    for row in world.accounts[ACCOUNT].games:
        world.add_store_item(row["appid"], row["name"])
    world.store[999_020]["type"] = SOUNDTRACK_TYPE
    return world


@pytest.fixture
def world() -> World:
    """What the sandbox knows; a module of tests may have another."""
    return small_world()


@pytest.fixture
def sandbox(world: World) -> Iterator[Sandbox]:
    """Steam, Twitch and IGDB on this machine, without IGDB's limits."""
    with Sandbox(world, limits=False) as running:
        yield running


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 takes a while to set up, so the tests of a module share one."""
    with local_s3():
        yield BUCKET


@pytest.fixture
def deployed(sandbox: Sandbox, bucket: str, configured: Configure) -> Iterator[Sandbox]:
    """What a Lambda function finds, but for DATABASE_URL."""
    configured(sandbox.environment | QUICK_SETTINGS | {"S3_BUCKET": bucket, "AWS_REGION": REGION})
    yield sandbox
    remove("")


def invoke(handler: Handler, event: object) -> dict[str, Any]:
    """As Lambda does: the event arrives as JSON, and the response leaves as JSON."""
    response = handler(json.loads(json.dumps(event)), None)
    assert json.loads(json.dumps(response, allow_nan=False)) == response
    return response


def put(location: str, body: str | bytes) -> None:
    """Write an object of the bucket behind the stages' backs."""
    s3_client().put_object(Bucket=BUCKET, Key=_key_of(location), Body=body.encode() if isinstance(body, str) else body)


def body_of(location: str) -> bytes:
    """The bytes of an object of the bucket."""
    return s3_client().get_object(Bucket=BUCKET, Key=_key_of(location))["Body"].read()


def written(prefix: str = "imports/") -> dict[str, str]:
    """The ETag of every object whose key begins so, by key; the users' own files, not the catalogue they share."""
    listed = s3_client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in listed}


def remove(prefix: str) -> None:
    """Delete the objects whose keys begin so."""
    for key in written(prefix):
        s3_client().delete_object(Bucket=BUCKET, Key=key)


def _key_of(location: str) -> str:
    return location.removeprefix(f"s3://{BUCKET}/")


def enriched_csv(*rows: dict[str, Any]) -> str:
    """An enriched CSV, of two apps unless rows are given."""
    chosen = rows or (matched(620, 72, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]), app(999_010))
    return library(*chosen).write_csv(datetime_format=TIME_FORMAT)


def rows_in(location: str) -> pl.DataFrame:
    """A CSV of the bucket, every column as text."""
    return pl.read_csv(body_of(location), infer_schema=False)
