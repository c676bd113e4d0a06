"""Keys in the store, and who may name them; pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pipeline.errors import Failed
from schemas.events import KEY_TIME

CsvStage = Literal["raw", "enriched"]

# A user id, a time and a stage, from a closed alphabet: what matches cannot climb out of its folder.
_CHECKPOINT = re.compile(
    r"imports/(?P<user_id>[A-Za-z0-9_-]{1,64})/(?P<stem>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})-(?P<stage>raw|enriched)\.csv",
    re.ASCII,
)


def own_key(key: str) -> str:
    """The key, if no file system and no S3 could take it for one outside its store.

    Raises:
        Failed: `location_refused`.
    """
    if key.startswith("/") or ".." in key.split("/") or "\\" in key or not key.isprintable():
        raise Failed("location_refused", f"{key!r:.200} is no key of a store.")
    return key


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
        return self.key.removesuffix(".csv") + ".json"

    @property
    def rejected_key(self) -> str:
        """The rows that were set aside when the CSV was made."""
        return self.key.removesuffix(".csv") + ".rejected.csv"

    @property
    def enriched(self) -> "Checkpoint":
        """The enriched CSV that is made from this raw one: the two share their time."""
        return Checkpoint(self.user_id, self.stem, "enriched")


def raw_checkpoint(user_id: str, timestamp: str | None = None) -> Checkpoint:
    """Where a fetch writes; without a `timestamp`, the one of now."""
    return Checkpoint(user_id, timestamp or datetime.now(UTC).strftime(KEY_TIME), "raw")


def checkpoint(key: str, stage: CsvStage, user_id: str | None = None) -> Checkpoint:
    """The checkpoint a key names, if it is one of that stage and of that user (None: of whom it says).

    Raises:
        Failed: `location_refused`.
    """
    found = _CHECKPOINT.fullmatch(key)
    if found is None or found["stage"] != stage:
        raise Failed(
            "location_refused", f"{key!r:.200} is not imports/{{user_id}}/{{timestamp}}-{stage}.csv of this store."
        )
    if user_id not in (None, found["user_id"]):
        raise Failed("location_refused", f"{key!r:.200} belongs to user {found['user_id']}, not to user {user_id}.")
    return Checkpoint(found["user_id"], found["stem"], stage)
