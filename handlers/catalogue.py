"""The one AWS Lambda function that asks IGDB: it looks up what joins missed, syncs the catalogue, and compacts it.

IGDB allows four requests a second to the account, so this function runs once at a time.
"""

from typing import Any

from handlers.respond import deadline_of, respond, run_async
from pipeline import clients
from pipeline.apis import igdb, steam  # noqa: F401 - imported while Lambda initialises, not while a user waits
from pipeline.catalogue.sync import sync_catalogue
from pipeline.catalogue.wanted import look_up_wanted
from pipeline.settings import Settings
from schemas.events import CatalogueEvent, CatalogueResponse


def handler(event: object, context: object) -> dict[str, Any]:
    """AWS Lambda entry point: do the step of the catalogue that the event names and return the response as JSON types.

    Apps that IGDB does not answer about before the function's time is up stay wanted.
    """
    deadline = deadline_of(context)
    return respond(
        event,
        CatalogueEvent,
        CatalogueResponse,
        lambda settings, event: run_async(_run_step(settings, event, deadline)),
        context,
    )


async def _run_step(settings: Settings, event: CatalogueEvent, deadline: float | None) -> CatalogueResponse:
    """Do a step; a sync ends with the look-up of all wanted apps, of which it brings most."""
    response = CatalogueResponse(success=True, step=event.step)
    store = clients.open_store(settings)
    if event.step == "compact":
        done = clients.open_catalogue(settings, store).compact()
        stats = {"apps": done.apps, "merged": done.merged, "quarantined": done.quarantined}
        return response.model_copy(update={"stats": stats})
    async with clients.open_catalogue_lookup(settings, deadline, store) as lookup:
        stats = {}
        if event.step == "sync":
            synced = await sync_catalogue(store, lookup.catalogue, lookup.igdb)
            stats = {"synced": synced.apps, "known": synced.known}
        stats |= (await look_up_wanted(store, lookup))._asdict()
        figures = {"stats": stats, "requests": lookup.requests, "retries": lookup.retries.count}
        return response.model_copy(update=figures)
