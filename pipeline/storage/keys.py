"""The keys of all files in a store, and the checks that refuse other keys and locations."""

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
"""The key of a checkpoint: a user id, a time and a stage. No character of them can lead to another folder."""

IMPORTS = "imports/"
"""The folder of the imports, with a folder for each user."""

BACKFILLS, PLAN = "backfills/", "plan.json"

LISTS = "lists/"
"""The folder of lists of users; unlike backfills they are kept until somebody deletes them."""

LAST_LOADED = "state/last_loaded.parquet"
"""The key of the Parquet file with the digest of the rows last loaded for each user, by any backfill."""

LAST_LOADED_BEFORE = "backfills/seen.parquet"
"""The key at which earlier versions wrote that file: it is read until one is written at the key of today."""

WANTED = "catalogue/wanted/"
"""The folder of the CSVs with apps that a join missed in the catalogue, for the next look-up."""

STEP_FILES: Mapping[ShardStep, str] = {"fetch": "raw", "enrich": "enriched", "load": "loaded"}
"""The part of a shard's file names that names the step that wrote them, by step."""


@dataclass(frozen=True)
class Checkpoint:
    """The keys of a user's raw or enriched CSV, of its manifest and of its rejected rows; it holds no contents."""

    user_id: str
    stem: str
    stage: CsvStage

    @property
    def key(self) -> str:
        """The key of the CSV."""
        return f"imports/{self.user_id}/{self.stem}-{self.stage}.csv"

    @property
    def fetched_at(self) -> datetime | None:
        """The time (UTC) in the key, when the fetch of the raw CSV began; None for a key without a time."""
        try:
            return datetime.strptime(self.stem, KEY_TIME).replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def manifest_key(self) -> str:
        """The key of the CSV's manifest."""
        return manifest_key(self.key)

    @property
    def rejected_key(self) -> str:
        """The key of the CSV with the rows that the stage rejected."""
        return self.key.removesuffix(".csv") + ".rejected.csv"

    @property
    def loaded_key(self) -> str:
        """The key of the manifest of the load of this import."""
        return f"imports/{self.user_id}/{self.stem}-loaded.json"

    @property
    def failure_key(self) -> str:
        """The key of the file that says why the last stage of this import failed, if it did."""
        return f"imports/{self.user_id}/{self.stem}-failed.json"

    @property
    def raw(self) -> "Checkpoint":
        """The checkpoint of the raw CSV of the same import, which has the same time in its key."""
        return Checkpoint(self.user_id, self.stem, "raw")

    @property
    def enriched(self) -> "Checkpoint":
        """The checkpoint of the enriched CSV of the same import, which has the same time in its key."""
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
        """The key of the CSV with the shard's users."""
        return f"{self._stem}-users.csv"

    @property
    def failure_key(self) -> str:
        """The key of the JSON file that says why the step of the shard that was tried last has failed."""
        return f"{self._stem}-failed.json"

    @property
    def prefix(self) -> str:
        """The beginning of the keys of all files of the shard."""
        return f"{self._stem}-"

    def manifest_key(self, step: ShardStep) -> str:
        """Return the key of the manifest that a step of the shard writes."""
        return f"{self._stem}-{STEP_FILES[step]}.json"

    def csv_key(self, step: ShardStep, sha256: str, *, is_rejected: bool = False) -> str:
        """Return the key of the CSV that a step writes, by the digest of its bytes, or of its CSV of rejected rows."""
        return f"{self._stem}-{STEP_FILES[step]}-{sha256[:16]}{'.rejected' if is_rejected else ''}.csv"

    @property
    def _stem(self) -> str:
        return f"{backfill_key(self.run_id, 'shards')}/{self.number:05}"


def raw_checkpoint(user_id: str, timestamp: str | None = None) -> Checkpoint:
    """Return the keys of the raw checkpoint that a fetch writes, with `timestamp` (default: now) in them."""
    return Checkpoint(user_id, timestamp or datetime.now(UTC).strftime(KEY_TIME), "raw")


def manifest_key(key: str) -> str:
    """Return the key of the manifest beside a CSV: the key of the CSV with .json in the place of .csv."""
    return key.removesuffix(".csv") + ".json"


def backfill_key(run_id: str, name: str) -> str:
    """Return the key of the file with a name in the folder of a backfill."""
    return f"{BACKFILLS}{run_id}/{name}"


def wanted_key(run_id: str, suffix: str = "") -> str:
    """Return the key of the CSV with the apps that a run's join missed; a second one of the run has a suffix.

    A run id may be longer than a file's name, and have characters that lead to another folder.
    """
    return f"{WANTED}{re.sub(r'[^A-Za-z0-9_-]', '-', run_id)[:200]}{suffix}.csv"


def user_folder(user_id: str) -> str:
    """Return the folder of all imports of a user."""
    return f"{IMPORTS}{user_id}/"


def parse_shard_key(key: str) -> Shard | None:
    """Return the shard that the key of a CSV with a shard's users belongs to; None for any other key."""
    found = re.fullmatch(rf"{BACKFILLS}([^/]+)/shards/(\d{{5}})-users\.csv", key, re.ASCII)
    return Shard(found[1], int(found[2])) if found else None


def parse_checkpoint_key(key: str, stage: CsvStage, user_id: str | None = None) -> Checkpoint:
    """Return the checkpoint that the key of a CSV belongs to; reads nothing.

    Raises:
        Failed: `location_refused`, if it is no key of a CSV of `stage`, or is one of another user than `user_id`.
    """
    found = parse_csv_key(key)
    if found is None:
        raise Failed(
            "location_refused",
            f"{key!r:.200} is not imports/{{user_id}}/{{timestamp}}-{stage}.csv of this store. Give a location as "
            f"{'fetch' if stage == 'raw' else 'enrich'} printed it.",
        )
    if user_id not in (None, found.user_id):
        raise Failed(
            "location_refused",
            f"{key!r:.200} belongs to user {found.user_id}, not to user {user_id}. Give a location of that user.",
        )
    if found.stage != stage:
        says = {
            "raw": f"this is an enriched CSV. Give the raw one, {found.raw.key}.",
            "enriched": "this is a raw CSV: enrich it first, with `steam-import enrich`, and give its CSV.",
        }
        raise Failed("location_refused", f"{key}: {says[stage]}")
    return found


def parse_csv_key(key: str) -> Checkpoint | None:
    """Return the checkpoint that the key of a user's raw or enriched CSV belongs to; None for any other key."""
    found = _CHECKPOINT.fullmatch(key)
    return Checkpoint(found["user_id"], found["stem"], cast("CsvStage", found["stage"])) if found else None


def parse_manifest_key(key: str) -> Checkpoint | None:
    """Return the checkpoint that the key of a manifest belongs to; None for any other key."""
    csv, dot, _ = key.rpartition(".json")
    return parse_csv_key(f"{csv}.csv") if dot else None


def parse_loaded_key(key: str) -> Checkpoint | None:
    """Return the enriched checkpoint whose load wrote the manifest with a key; None for any other key."""
    stem = key.removesuffix("-loaded.json")
    return None if stem == key else parse_manifest_key(f"{stem}-enriched.json")


def parse_plan_key(key: str) -> str | None:
    """Return the run id of the backfill that the key of a plan belongs to; None for any other key."""
    run_id = key.removeprefix(BACKFILLS).removesuffix(f"/{PLAN}")
    return run_id if key == backfill_key(run_id, PLAN) and "/" not in run_id else None


def require_key_inside(key: str) -> str:
    """Return the key unchanged, or raise `location_refused` if it could lead out of the store."""
    if key.startswith("/") or ".." in key.split("/") or "\\" in key or not key.isprintable():
        raise Failed("location_refused", f"{key!r:.200} is not a key of a store.")
    return key


def outside_store_error(location: str, root: str) -> Failed:
    """Return a Failed error, `location_refused`, for a location that is not in the store whose root is `root`."""
    return Failed(
        "location_refused",
        f"{location!r:.200} is not in the store {root}. Give a location as fetch or enrich printed it, or set "
        "STORE_URL to the store that it is in.",
    )
