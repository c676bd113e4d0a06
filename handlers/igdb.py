"""The one AWS Lambda function that asks IGDB: an import's enrich stage, or the look-up of a backfill.

IGDB allows four requests a second to the account, so this function runs once at a time.
"""

from typing import Any

from handlers import igdb_enrichment


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: enrich a raw CSV, or do the step of a backfill that the event names; return the response.

    A backfill's events have the key `step`; those of an import have not.
    """
    if isinstance(event, dict) and "step" in event:
        from handlers import backfill

        return backfill.handler(event, context)
    return igdb_enrichment.handler(event, context)
