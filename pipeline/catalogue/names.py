"""The names of apps that IGDB was asked for, with the games that were found: one file in the store, for all users."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.errors import Retryable
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, read_parquet, to_parquet
from schemas.catalogue import KnownNames
from schemas.frames import conform, empty_frame

NAMES = "catalogue/names.parquet"
TRIES = 10
REMEDY = "Use the version of the program that wrote it, or delete it: then IGDB is asked for the names again."
log = structlog.get_logger()


@dataclass(frozen=True)
class NameFile:
    """The file of names that IGDB was searched for, with the games found, if any, in a store.

    A row counts for `lifetime` after its look-up, because IGDB gets new games.

    Raises, when it is read or written:
        Failed: `checkpoint_invalid`, if the file is of a version that this program does not read.
        Retryable: `store_unavailable`.
    """

    store: Store
    lifetime: timedelta

    def read(self) -> DataFrame[KnownNames]:
        """Return the names that were looked up within the lifetime; none if the file is corrupt."""
        body = self.store.read(NAMES)
        if body is None:
            return empty_frame(KnownNames)
        try:
            rows = read_parquet(body, "names", KnownNames, NAMES, REMEDY)
        except CorruptFile as error:
            log.warning("file of names is corrupt", key=NAMES, fault=str(error))
            return empty_frame(KnownNames)
        return conform(rows.filter(pl.col("looked_up_at") > datetime.now(UTC) - self.lifetime), KnownNames)

    def remember(self, rows: DataFrame[KnownNames]) -> None:
        """Add names to the file, each over its older row; those that others add meanwhile are kept."""
        for _ in range(TRIES):
            etag = self.store.list(NAMES).get(NAMES)
            merged = pl.concat([self.read(), rows]).unique("name", keep="last", maintain_order=True)
            if self.store.replace(NAMES, to_parquet(merged, "names"), etag):
                return
        raise Retryable("store_unavailable", f"{NAMES} is being rewritten by others all the time. Try again later.")
