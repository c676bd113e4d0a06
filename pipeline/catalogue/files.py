"""The catalogue in the store: one large file, and small ones beside it that no one ever changes.

An enrichment adds a file of its own under `catalogue/new/`; readers take all files together, and of each app the latest
word wins. Only `compact` rewrites the large file, and deletes what it merged after that: killed in between, it leaves
rows that are there twice, which merge to the same.
"""

from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import Retryable
from pipeline.frames.catalogue import merge_catalogues
from pipeline.storage.store import Store
from pipeline.storage.versioned import UNREADABLE, read_parquet, to_parquet, version_of
from schemas.catalogue import Catalogue
from schemas.frames import conform, empty_frame
from schemas.manifest import SCHEMA_VERSION

ROOT = "catalogue/"
APPS = "catalogue/apps.parquet"
NEW = "catalogue/new/"
ASIDE = "catalogue/aside/"
TRIES = 10
log = structlog.get_logger()


@dataclass(frozen=True)
class Compaction:
    """What a compaction did: rows of the large file, files merged into it, files set aside."""

    apps: int
    merged: int
    set_aside: int


@dataclass
class Memory:
    """What was read of a catalogue, by ETag; whoever keeps it need not read that again."""

    seen: dict[str, str] = field(default_factory=dict)
    known: DataFrame[Catalogue] = field(default_factory=partial(empty_frame, Catalogue), repr=False)


class CatalogueFiles:
    """The catalogue of one store; keeps what it read in memory, and reads only files with another ETag again.

    Raises:
        Retryable: `store_unavailable`, also when files vanish faster than they can be read.
    """

    def __init__(self, store: Store, memory: Memory | None = None) -> None:
        self._store = store
        self._memory = memory or Memory()

    def read(self) -> DataFrame[Catalogue]:
        """The Catalogue as it is now; two listings where nothing has changed."""
        for _ in range(TRIES):
            listed = self._listed()
            memory = self._memory
            is_grown = listed.get(APPS) == memory.seen.get(APPS) and memory.seen.keys() <= listed.keys()
            unread = [key for key, etag in listed.items() if not is_grown or memory.seen.get(key) != etag]
            parts = [self._read_file(key) for key in unread]
            if all(part is not None for part in parts):
                rows = [part.rows for part in parts if part]
                if unread or not is_grown:
                    memory.known = merge_catalogues([memory.known, *rows] if is_grown else rows)
                memory.seen = listed
                return memory.known
        raise Retryable("store_unavailable", f"{ROOT} changes faster than it can be read. Try again later.")

    def sizes(self) -> dict[str, int]:
        """The bytes of each file."""
        return {key: len(self._store.read(key) or b"") for key in self._listed()}

    def remember(self, rows: DataFrame[Catalogue]) -> None:
        """Add Catalogue rows, as a file of their own that no one ever changes."""
        if rows.height:  # others would be set aside when they are read
            self._store.write(f"{NEW}{uuid4().hex}.parquet", to_parquet(Catalogue.validate(rows, lazy=True)))

    def compact(self) -> Compaction:
        """Merge all files into the large one, then delete them; what cannot be read is moved aside."""
        for _ in range(TRIES):
            listed = self._listed()
            parts = {key: self._read_file(key) for key in listed}
            found = {key: part for key, part in parts.items() if part}
            if len(found) < len(listed):
                continue
            apps = merge_catalogues([part.rows for part in found.values()])
            spoilt = {key: part for key, part in found.items() if not part.is_whole}
            for key, part in spoilt.items():
                self._store.write(ASIDE + key.removeprefix(ROOT).replace("/", "-"), part.body)
            if self._store.replace(APPS, to_parquet(apps), listed.get(APPS)):
                merged = found.keys() - {APPS}
                for key in merged:
                    self._store.delete(key)
                return Compaction(apps.height, len(merged - spoilt.keys()), len(spoilt))
        raise Retryable("store_unavailable", f"{APPS} is being rewritten by others all the time. Try again later.")

    def _listed(self) -> dict[str, str]:
        """The large file first: its rows yield to the small ones' of the same time.

        Asked for last: of a small file that is gone by now, the rows are in a large one of another ETag.
        """
        small = {key: etag for key, etag in self._store.list(NEW).items() if key.endswith(".parquet")}
        large = self._store.list(APPS)
        return {APPS: large[APPS], **small} if APPS in large else small

    def _read_file(self, key: str) -> "_Part | None":
        body = self._store.read(key)
        if body is None:
            return None
        try:
            version = version_of(body)
            if version == str(SCHEMA_VERSION):
                return _Part(conform(read_parquet(body, Catalogue), Catalogue), body, is_whole=True)
            fault = f"schema version {version}"
        except UNREADABLE as error:
            fault = type(error).__name__
        log.warning("catalogue file set aside", key=key, fault=fault)
        return _Part(empty_frame(Catalogue), body, is_whole=False)


@dataclass(frozen=True)
class _Part:
    rows: DataFrame[Catalogue]
    body: bytes
    is_whole: bool
