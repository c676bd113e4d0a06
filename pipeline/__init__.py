"""A person's Steam library, matched to IGDB: what notebooks and scripts read it with.

Imported only when asked for: a Lambda function that imports one module gets that module.
"""

from typing import TYPE_CHECKING

__all__ = ["list_runs", "read_backfill", "read_enriched", "read_raw"]

if TYPE_CHECKING:
    from pipeline.api import list_runs, read_backfill, read_enriched, read_raw
else:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from pipeline import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
