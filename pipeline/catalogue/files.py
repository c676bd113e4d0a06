"""The catalogue's files in the store: one large file, and small ones beside it that are never changed.

Each enrichment adds a small file under `catalogue/new/`. Readers take all files together; of each app the latest row
counts. Only `compact` rewrites the large file, and deletes the small ones after that: if it is killed in between, some
rows are there twice, and merge to one.
"""

from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import Retryable
from pipeline.frames.catalogue import merge_catalogues
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, read_parquet, to_parquet
from schemas.catalogue import Catalogue
from schemas.frames import empty_frame

ROOT = "catalogue/"
APPS = "catalogue/apps.parquet"
NEW = "catalogue/new/"
QUARANTINE = "catalogue/quarantine/"
TRIES = 10
REMEDY = (
    "Use the version of the program that wrote it, or delete it: then Steam's store and IGDB are asked about its apps "
    "again."
)
log = structlog.get_logger()


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction: numbers of rows in the large file, files merged, and files in quarantine."""

    apps: int
    merged: int
    quarantined: int


@dataclass
class Memory:
    """A cache of a catalogue's rows, with the ETags of the files that they were read from, by key."""

    etags: dict[str, str] = field(default_factory=dict)
    known: DataFrame[Catalogue] = field(default_factory=partial(empty_frame, Catalogue), repr=False)


class CatalogueFiles:
    """The catalogue files of one store; files whose ETags are those in the cache are not read again.

    Raises:
        Failed: `checkpoint_invalid`, if a file is of a version that this program does not read.
        Retryable: `store_unavailable`, also if files vanish faster than they can be read.
    """

    def __init__(self, store: Store, memory: Memory | None = None) -> None:
        self._store = store
        self._memory = memory or Memory()

    def read(self) -> DataFrame[Catalogue]:
        """Return all rows of the catalogue; if no file changed since the last call, none is read."""
        for _ in range(TRIES):
            etags = self._list()
            memory = self._memory
            is_grown = etags.get(APPS) == memory.etags.get(APPS) and memory.etags.keys() <= etags.keys()
            unread = [key for key, etag in etags.items() if not is_grown or memory.etags.get(key) != etag]
            files = [self._read_file(key) for key in unread]
            if all(file is not None for file in files):
                rows = [file.rows for file in files if file]
                if unread or not is_grown:
                    memory.known = merge_catalogues([memory.known, *rows] if is_grown else rows)
                memory.etags = etags
                return memory.known
        raise Retryable("store_unavailable", f"{ROOT} changes faster than it can be read. Try again later.")

    def sizes(self) -> dict[str, int]:
        """Return a mapping of key to number of bytes for the catalogue's files."""
        return {key: len(self._store.read(key) or b"") for key in self._list()}

    def remember(self, rows: DataFrame[Catalogue]) -> None:
        """Write rows into the catalogue, as a small file of their own; raises SchemaErrors if they do not conform."""
        if rows.height:
            valid = Catalogue.validate(rows, lazy=True)
            self._store.write(f"{NEW}{uuid4().hex}.parquet", to_parquet(valid, "catalogue"))

    def compact(self) -> Compaction:
        """Merge all files into the large one, quarantine corrupt ones; return the numbers of rows and of both."""
        for _ in range(TRIES):
            etags = self._list()
            files = {key: file for key in etags if (file := self._read_file(key))}
            if len(files) < len(etags):
                continue
            corrupt = {key: file for key, file in files.items() if file.is_corrupt}
            for key, file in corrupt.items():
                self._store.write(QUARANTINE + key.removeprefix(ROOT).replace("/", "-"), file.body)
            apps = merge_catalogues([file.rows for file in files.values()])
            if self._store.replace(APPS, to_parquet(apps, "catalogue"), etags.get(APPS)):
                small = files.keys() - {APPS}
                for key in small:
                    self._store.delete(key)
                return Compaction(apps.height, len(small - corrupt.keys()), len(corrupt))
        raise Retryable("store_unavailable", f"{APPS} is being rewritten by others all the time. Try again later.")

    def _list(self) -> dict[str, str]:
        """Return the ETag of each file by key, the large file first: of rows of one time, those of a small file count.

        The large file is listed last: if a small file was merged after it was listed, the large one has another ETag.
        """
        small = {key: etag for key, etag in self._store.list(NEW).items() if key.endswith(".parquet")}
        large = self._store.list(APPS)
        return {APPS: large[APPS], **small} if APPS in large else small

    def _read_file(self, key: str) -> "_File | None":
        """Return one file, without rows if it is corrupt; None if it was deleted meanwhile."""
        body = self._store.read(key)
        if body is None:
            return None
        try:
            return _File(read_parquet(body, "catalogue", Catalogue, key, REMEDY), body)
        except CorruptFile as error:
            log.warning("catalogue file is corrupt", key=key, fault=str(error))
            return _File(empty_frame(Catalogue), body, is_corrupt=True)


@dataclass(frozen=True)
class _File:
    rows: DataFrame[Catalogue]
    body: bytes
    is_corrupt: bool = False
