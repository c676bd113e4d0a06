"""The catalogue's files in the store: one large file, and small ones beside it that are never changed.

Each look-up adds a small file under `catalogue/new/`. Readers take all files together; of each app the latest row
counts. Only `compact` rewrites the large file, and deletes the small ones after that: if it is killed in between, some
rows are there twice, and merge to one. It replaces the large file only if that is still the one it read, so anybody may
compact at any time, and whoever adds the 100th small file does.

A reader takes the whole large file and keeps its rows for the next library. To decode 200,000 real rows takes 0.4 s of
CPU; to decode those of 300 apps alone takes 0.3 s, because they lie all over the file, and it would be done for each
library.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import PipelineError, Retryable
from pipeline.frames.catalogue import merge_catalogues
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, read_current_parquets, read_parquet, to_parquet
from schemas.catalogue import Catalogue
from schemas.frames import empty_frame

ROOT = "catalogue/"
APPS = "catalogue/apps.parquet"
NEW = "catalogue/new/"
QUARANTINE = "catalogue/quarantine/"
TRIES = 10

MAX_SMALL_FILES = 100
"""The number of small files at which the writer of the last one compacts; reading as many takes under a second."""

THREADS = 16
"""The number of files that are read or deleted at a time; boto keeps a connection open for each."""

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
            files = self._read_files(unread)
            if files:
                if unread or not is_grown:
                    memory.known = merge_catalogues([memory.known, *files.rows] if is_grown else files.rows)
                memory.etags = etags
                return memory.known
        raise Retryable("store_unavailable", f"{ROOT} changes faster than it can be read. Try again later.")

    def sizes(self) -> dict[str, int]:
        """Return a mapping of key to number of bytes for the catalogue's files."""
        return {key: len(self._store.read(key) or b"") for key in self._list()}

    def remember(self, rows: DataFrame[Catalogue]) -> None:
        """Write rows into the catalogue, as a small file of their own, and compact it if there are many of these.

        Raises:
            SchemaErrors: The rows do not conform.
        """
        if rows.height:
            valid = Catalogue.validate(rows, lazy=True)
            self._store.write(f"{NEW}{uuid4().hex}.parquet", to_parquet(valid, "catalogue"))
            if len(self._list_small()) >= MAX_SMALL_FILES:
                self._compact_if_possible()

    def _compact_if_possible(self) -> None:
        try:
            self.compact()
        except PipelineError as error:  # the rows are written, and whoever writes next tries again
            log.warning("catalogue is not compacted", error_code=error.code, error=error.message)

    def compact(self) -> Compaction:
        """Merge all files into the large one, quarantine corrupt ones; return the numbers of rows and of both."""
        for _ in range(TRIES):
            etags = self._list()
            files = self._read_files(etags)
            if files is None:
                continue
            for key, body in files.corrupt.items():
                self._store.write(QUARANTINE + key.removeprefix(ROOT).replace("/", "-"), body)
            apps = merge_catalogues(files.rows)
            if self._store.replace(APPS, to_parquet(apps, "catalogue"), etags.get(APPS)):
                small = etags.keys() - {APPS}
                with ThreadPoolExecutor(THREADS) as threads:
                    for _ in threads.map(self._store.delete, small):
                        pass
                return Compaction(apps.height, len(small - files.corrupt.keys()), len(files.corrupt))
        raise Retryable("store_unavailable", f"{APPS} is being rewritten by others all the time. Try again later.")

    def _list(self) -> dict[str, str]:
        """Return the ETag of each file by key, the large file first: of rows of one time, those of a small file count.

        The large file is listed last: if a small file was merged after it was listed, the large one has another ETag.
        """
        small = self._list_small()
        large = self._store.list(APPS)
        return {APPS: large[APPS], **small} if APPS in large else small

    def _list_small(self) -> dict[str, str]:
        return {key: etag for key, etag in self._store.list(NEW).items() if key.endswith(".parquet")}

    def _read_files(self, keys: Iterable[str]) -> "_Files | None":
        """Return the rows of files in their order, and the bytes of corrupt ones; None if one was deleted meanwhile."""
        with ThreadPoolExecutor(THREADS) as threads:
            read = dict(zip(keys, threads.map(self._store.read, keys), strict=True))
        bodies = {key: body for key, body in read.items() if body is not None}
        if len(bodies) < len(read):
            return None
        try:
            return _Files([read_current_parquets(list(bodies.values()), "catalogue", Catalogue)])
        except CorruptFile:
            return _read_one_by_one(bodies)


def _read_one_by_one(bodies: dict[str, bytes]) -> "_Files":
    """Return the rows of files, and the bytes of the corrupt ones, which are logged."""
    files = _Files([])
    for key, body in bodies.items():
        try:
            files.rows.append(read_parquet(body, "catalogue", Catalogue, key, REMEDY))
        except CorruptFile as error:
            log.warning("catalogue file is corrupt", key=key, fault=str(error))
            files.corrupt[key] = body
    return files


@dataclass(frozen=True)
class _Files:
    rows: list[DataFrame[Catalogue]]
    corrupt: dict[str, bytes] = field(default_factory=dict)
