"""Keys in the store, and who may name them; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from pipeline.errors import Failed
from schemas.backfill import ShardRecord
from schemas.events import KEY_TIME, ShardStep

CsvStage = Literal["raw", "enriched"]

# A user id, a time and a stage, from a closed alphabet: what matches cannot climb out of its folder.
_CHECKPOINT = re.compile(
    r"imports/(?P<user_id>[A-Za-z0-9_-]{1,64})/(?P<stem>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})-(?P<stage>raw|enriched)\.csv",
    re.ASCII,
)


def require_key_inside(key: str) -> str:
    """The key, if no file system and no S3 could take it for one outside its store.

    Raises:
        Failed: `location_refused`.
    """
    if key.startswith("/") or ".." in key.split("/") or "\\" in key or not key.isprintable():
        raise Failed("location_refused", f"{key!r:.200} is no key of a store.")
    return key


def outside_store_error(location: str, root: str) -> Failed:
    """The refusal of a location, or of a key, that leads out of a store."""
    return Failed(
        "location_refused",
        f"{location!r:.200} is not in the store {root}. Give a location as fetch or enrich printed it, or set "
        "STORE_URL to the store that it is in.",
    )


@dataclass(frozen=True)
class Checkpoint:
    """One CSV of one user, and the files beside it."""

    user_id: str
    stem: str
    stage: CsvStage

    @property
    def key(self) -> str:
        """The CSV's own key."""
        return f"imports/{self.user_id}/{self.stem}-{self.stage}.csv"

    @property
    def manifest_key(self) -> str:
        """The manifest beside the CSV."""
        return manifest_key(self.key)

    @property
    def rejected_key(self) -> str:
        """The rows that were set aside when the CSV was made."""
        return self.key.removesuffix(".csv") + ".rejected.csv"

    @property
    def enriched(self) -> "Checkpoint":
        """The enriched CSV that is made from this raw one: the two share their time."""
        return Checkpoint(self.user_id, self.stem, "enriched")


def manifest_key(key: str) -> str:
    """Where the manifest of a CSV lies: beside it, under its name."""
    return key.removesuffix(".csv") + ".json"


def parse_manifest_key(key: str) -> Checkpoint | None:
    """The checkpoint whose manifest lies at a key; None for any other key."""
    csv, dot, _ = key.rpartition(".json")
    found = _CHECKPOINT.fullmatch(f"{csv}.csv") if dot else None
    return Checkpoint(found["user_id"], found["stem"], cast("CsvStage", found["stage"])) if found else None


def parse_plan_key(key: str) -> str | None:
    """The id of the backfill whose plan lies at a key; None for any other key."""
    run_id = key.removeprefix(BACKFILLS).removesuffix(f"/{PLAN}")
    return run_id if key == backfill_key(run_id, PLAN) and "/" not in run_id else None


def raw_checkpoint(user_id: str, timestamp: str | None = None) -> Checkpoint:
    """Where a fetch writes; without a `timestamp`, the one of now."""
    return Checkpoint(user_id, timestamp or datetime.now(UTC).strftime(KEY_TIME), "raw")


def parse_checkpoint_key(key: str, stage: CsvStage, user_id: str | None = None) -> Checkpoint:
    """The checkpoint a key names, if it is one of that stage and of that user (None: of whom it says).

    Raises:
        Failed: `location_refused`.
    """
    found = _CHECKPOINT.fullmatch(key)
    if found is None or found["stage"] != stage:
        raise Failed(
            "location_refused",
            f"{key!r:.200} is not imports/{{user_id}}/{{timestamp}}-{stage}.csv of this store. Give a location as "
            f"{'fetch' if stage == 'raw' else 'enrich'} printed it.",
        )
    if user_id not in (None, found["user_id"]):
        raise Failed(
            "location_refused",
            f"{key!r:.200} belongs to user {found['user_id']}, not to user {user_id}. Give one of that user's own.",
        )
    return Checkpoint(found["user_id"], found["stem"], stage)


BACKFILLS, PLAN = "backfills/", "plan.json"

LAST_LOADED = "backfills/seen.parquet"
"""What was last loaded for whom, by any backfill."""

MADE_BY: Mapping[ShardStep, str] = {"fetch": "raw", "enrich": "enriched", "load": "loaded"}
"""What the files of a shard are called, by the step that makes them."""


@dataclass(frozen=True)
class Shard:
    """The files of one shard of a backfill.

    A CSV is called after its bytes, so that no two workers ever write different ones to one key; which of them counts
    is what the manifest says.
    """

    run_id: str
    number: int

    @property
    def users_key(self) -> str:
        """Whose shard it is."""
        return f"{self._stem}-users.csv"

    @property
    def failure_key(self) -> str:
        """Why its last step could not be done."""
        return f"{self._stem}-failed.json"

    def manifest_key(self, step: ShardStep) -> str:
        """What a step made of the shard."""
        return f"{self._stem}-{MADE_BY[step]}.json"

    def csv_key(self, step: ShardStep, sha256: str, *, is_rejected: bool = False) -> str:
        """A CSV with these bytes."""
        return f"{self._stem}-{MADE_BY[step]}-{sha256[:16]}{'.rejected' if is_rejected else ''}.csv"

    def is_of(self, record: ShardRecord, step: ShardStep) -> bool:
        """Whether a manifest is of that step of this shard, and names no file of any other."""
        files = [(record.file, False), (record.rejected, True)]
        keys = [
            (file.key, self.csv_key(step, file.sha256, is_rejected=is_rejected)) for file, is_rejected in files if file
        ]
        is_own = (record.run_id, record.shard, record.step) == (self.run_id, self.number, step)
        return is_own and all(named == key for named, key in keys)

    @property
    def _stem(self) -> str:
        return f"{backfill_key(self.run_id, 'shards')}/{self.number:05}"


def backfill_key(run_id: str, name: str) -> str:
    """A file of a backfill."""
    return f"{BACKFILLS}{run_id}/{name}"
