"""Keys in a store: where each file lies, and which keys and locations are refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from pipeline.errors import Failed
from schemas.events import KEY_TIME, ShardStep

CsvStage = Literal["raw", "enriched"]

_CHECKPOINT = re.compile(
    r"imports/(?P<user_id>[A-Za-z0-9_-]{1,64})/(?P<stem>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})-(?P<stage>raw|enriched)\.csv",
    re.ASCII,
)
"""A user id, a time and a stage. No character of them can lead to another folder."""

BACKFILLS, PLAN = "backfills/", "plan.json"

LAST_LOADED = "backfills/seen.parquet"
"""The key of what was last loaded for each user, by any backfill."""

STEP_FILES: Mapping[ShardStep, str] = {"fetch": "raw", "enrich": "enriched", "load": "loaded"}
"""The part of a shard's file names that says which step made them."""


@dataclass(frozen=True)
class Checkpoint:
    """The CSV that a stage made for one user, and the keys of the files beside it."""

    user_id: str
    stem: str
    stage: CsvStage

    @property
    def key(self) -> str:
        """The key of the CSV."""
        return f"imports/{self.user_id}/{self.stem}-{self.stage}.csv"

    @property
    def manifest_key(self) -> str:
        """The key of the manifest."""
        return manifest_key(self.key)

    @property
    def rejected_key(self) -> str:
        """The key of the rows that were set aside when the CSV was made."""
        return self.key.removesuffix(".csv") + ".rejected.csv"

    @property
    def enriched(self) -> "Checkpoint":
        """The enriched checkpoint that is made from this raw one, with the same time in its key."""
        return Checkpoint(self.user_id, self.stem, "enriched")


@dataclass(frozen=True)
class Shard:
    """The keys of the files of one shard of a backfill.

    The name of a CSV contains the digest of its bytes, so two workers never write different CSVs to one key. The
    manifest of a step says which CSV counts.
    """

    run_id: str
    number: int

    @property
    def users_key(self) -> str:
        """The key of the shard's users."""
        return f"{self._stem}-users.csv"

    @property
    def failure_key(self) -> str:
        """The key of the reason why the last step failed."""
        return f"{self._stem}-failed.json"

    def manifest_key(self, step: ShardStep) -> str:
        """Return the key of a step's manifest."""
        return f"{self._stem}-{STEP_FILES[step]}.json"

    def csv_key(self, step: ShardStep, sha256: str, *, is_rejected: bool = False) -> str:
        """Return the key of a step's CSV whose bytes have this digest, or of its CSV of rejected rows."""
        return f"{self._stem}-{STEP_FILES[step]}-{sha256[:16]}{'.rejected' if is_rejected else ''}.csv"

    @property
    def _stem(self) -> str:
        return f"{backfill_key(self.run_id, 'shards')}/{self.number:05}"


def raw_checkpoint(user_id: str, timestamp: str | None = None) -> Checkpoint:
    """Return the checkpoint that a fetch writes, with this time in its key, or the present time."""
    return Checkpoint(user_id, timestamp or datetime.now(UTC).strftime(KEY_TIME), "raw")


def manifest_key(key: str) -> str:
    """Return the key of the manifest beside a CSV: the key of the CSV with .json in the place of .csv."""
    return key.removesuffix(".csv") + ".json"


def backfill_key(run_id: str, name: str) -> str:
    """Return the key of a backfill's file."""
    return f"{BACKFILLS}{run_id}/{name}"


def parse_checkpoint_key(key: str, stage: CsvStage, user_id: str | None = None) -> Checkpoint:
    """Return the checkpoint whose CSV has this key.

    Raises:
        Failed: `location_refused`, if the key is not of that stage, or is of another user than `user_id`.
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
            f"{key!r:.200} belongs to user {found['user_id']}, not to user {user_id}. Give a location of that user.",
        )
    return Checkpoint(found["user_id"], found["stem"], stage)


def parse_manifest_key(key: str) -> Checkpoint | None:
    """Return the checkpoint whose manifest has this key; None for any other key."""
    csv, dot, _ = key.rpartition(".json")
    found = _CHECKPOINT.fullmatch(f"{csv}.csv") if dot else None
    return Checkpoint(found["user_id"], found["stem"], cast("CsvStage", found["stage"])) if found else None


def parse_plan_key(key: str) -> str | None:
    """Return the id of the backfill whose plan has this key; None for any other key."""
    run_id = key.removeprefix(BACKFILLS).removesuffix(f"/{PLAN}")
    return run_id if key == backfill_key(run_id, PLAN) and "/" not in run_id else None


def require_key_inside(key: str) -> str:
    """Return the key, or raise `location_refused` if a file system or S3 could take it to lead out of the store."""
    if key.startswith("/") or ".." in key.split("/") or "\\" in key or not key.isprintable():
        raise Failed("location_refused", f"{key!r:.200} is not a key of a store.")
    return key


def outside_store_error(location: str, root: str) -> Failed:
    """Return the error for a location that is not in the store with that root: `location_refused`."""
    return Failed(
        "location_refused",
        f"{location!r:.200} is not in the store {root}. Give a location as fetch or enrich printed it, or set "
        "STORE_URL to the store that it is in.",
    )
