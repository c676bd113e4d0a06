"""What the notebooks show: the library of the demo, before and after three overrides."""

import asyncio

from pipeline import list_runs, wiring
from pipeline.local import with_sandbox
from pipeline.settings import Settings
from schemas.events import EnrichEvent, FetchEvent

OVERRIDES = b"""appid,action,igdb_id,note
489830,match,472,an edition of Skyrim
2674810,ignore,,a character creator is no game
363890,game,,software to the store but a game to IGDB
"""
BEFORE, AFTER = "20260101T000000Z", "20260102T000000Z"


def make_sample(store_url: str) -> None:
    """Fetch and enrich the demo's library twice, from the sandbox's APIs, unless that is done."""
    if list_runs(store_url)["enriched"].count() >= len((BEFORE, AFTER)):
        return
    with with_sandbox(Settings.read(log_level="WARNING")) as (apis, account):
        settings = apis.model_copy(update={"store_url": store_url})
        wiring.configure_logging(settings)
        asyncio.run(_import(settings, account, BEFORE))
        wiring.store(settings).write("overrides.csv", OVERRIDES)
        asyncio.run(_import(settings, account, AFTER))


async def _import(settings: Settings, account: str, timestamp: str) -> None:
    fetched = await wiring.fetch(settings, FetchEvent(user_id=account, steam_id64=account, timestamp=timestamp))
    await wiring.enrich(settings, EnrichEvent(user_id=account, s3_location=str(fetched.s3_location)))
