"""What a command leaves: rows and objects, but for the ids and times that no two runs have in common."""

import json
import re
from hashlib import sha256
from io import BytesIO
from typing import Any

import polars as pl

from pipeline.catalogue.files import CatalogueFiles
from pipeline.storage.keys import LAST_LOADED, backfill_key
from pipeline.storage.store import Store
from tests.database.interrupted import CONTENT, rows

OWN_EVERY_TIME = {"requests", "rate_limited", "started_at", "finished_at", "created_at", "seconds", "effort", "written"}
OF_REPORT = ("input", "is_complete", "users", "shards", "failures")
IS_UPDATED = re.compile('"isUpdated": (true|false)')
TIMES = ("store_asked_at", "looked_up_at")

Left = dict[str, Any]


def left(url: str, place: Store) -> Left:
    """By what it is: rows, the catalogue, the imports' objects, and those of the backfills."""
    known = CatalogueFiles(place).read().drop(TIMES).sort("appid")
    runs = sorted({key.split("/")[1] for key in place.list("backfills/") if key.endswith("/report.json")})
    return {
        "row": sorted((table, IS_UPDATED.sub("", row)) for table, row in rows(url, CONTENT)),
        "catalogue": known.rows(),
        "import": {key: _content(place, key) for key in place.list("imports/")},
        "backfill": {key: _content(place, key) for run in runs[:1] for key in place.list(backfill_key(run, ""))},
        "outcome": _outcomes(place, runs[-1]) if runs else {},
        "half written": half_written(place),
    }


def half_written(place: Store) -> list[str]:
    """The objects that cannot be read whole, or are not what their manifest or their name says."""
    return [key for key in place.list("") if not _is_whole(place, key)]


def _outcomes(place: Store, run_id: str) -> dict[str, object]:
    """What a backfill says to people, and to the next one."""
    report = json.loads(_body(place, backfill_key(run_id, "report.json")))
    return {
        "report": {name: report[name] for name in OF_REPORT},
        "outcomes": _body(place, backfill_key(run_id, "outcomes.csv")),
        "seen": pl.read_parquet(_body(place, LAST_LOADED)).drop("seen_at").rows(),
    }


def _content(place: Store, key: str) -> object:
    body = _body(place, key)
    if not key.endswith(".json"):
        return body
    found = json.loads(body)
    if not isinstance(found, dict):
        return found
    # A load whose commit nobody heard of finds its rows there when it is done again.
    own = OWN_EVERY_TIME | ({"counts"} if found.get("step") == "load" else set())
    return {name: value for name, value in found.items() if name not in own}


def _is_whole(place: Store, key: str) -> bool:
    body = _body(place, key)
    try:
        if key.endswith(".parquet"):
            return pl.read_parquet(BytesIO(body)).width > 0
        if key.endswith(".json"):
            return json.loads(body) is not None
    except (ValueError, pl.exceptions.PolarsError):
        return False
    digest = sha256(body).hexdigest()
    if "/shards/" in key and not key.endswith("-users.csv"):
        return key.removesuffix(".csv").removesuffix(".rejected").endswith(digest[:16])
    manifest = place.read(key.removesuffix(".csv") + ".json")
    is_described = manifest is None or "sha256" not in (said := json.loads(manifest)) or said["sha256"] == digest
    return is_described and body.endswith(b"\n")


def _body(place: Store, key: str) -> bytes:
    body = place.read(key)
    assert body is not None, key
    return body
