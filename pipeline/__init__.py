"""The functions with which notebooks and scripts read what imports and backfills wrote.

They are imported from `pipeline.api` when they are asked for, so that a Lambda function which imports one module of the
package gets that module alone.
"""

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would be half of what start-up imports

__all__ = ["list_runs", "read_backfill", "read_changes", "read_enriched", "read_history", "read_raw"]

if TYPE_CHECKING:
    from pipeline.api import list_runs, read_backfill, read_changes, read_enriched, read_history, read_raw
else:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from pipeline import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
