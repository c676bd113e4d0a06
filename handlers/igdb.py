"""The one function that talks to IGDB: an import's enrich stage, and the catalogue step of a backfill."""

from typing import Any

from handlers import igdb_enrichment


def handler(event: object, context: object) -> dict[str, Any]:
    """Four requests a second belong to the account, so what asks IGDB is one function that runs once at a time."""
    if isinstance(event, dict) and "step" in event:
        from handlers import backfill

        return backfill.handler(event, context)
    return igdb_enrichment.handler(event, context)
