"""One cold read of a catalogue, which a new process does: `python -m benchmarks.cold_read STORE_URL [LIBRARY]`.

It reads all rows of the catalogue, or joins the library in a Parquet file with it, and prints nothing.
"""

import logging
import sys

import polars as pl
import structlog

from pipeline.catalogue.files import CatalogueFiles
from pipeline.frames.catalogue import join_catalogue
from pipeline.storage.store import open_store_at_url
from schemas.catalogue import Overrides
from schemas.frames import conform, empty_frame
from schemas.library import ClassifiedLibrary


def main(store_url: str, library: str | None = None) -> None:
    """Read all rows of the catalogue in a store, or join a library with it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # no word of corrupt files
    files = CatalogueFiles(open_store_at_url(store_url))
    if library is None:
        files.read()
    else:
        owned = conform(pl.read_parquet(library), ClassifiedLibrary)
        join_catalogue(owned, files.read_about(owned), empty_frame(Overrides))


if __name__ == "__main__":
    main(*sys.argv[1:])
