"""The three stages against real services, watched, and what the recording says of the facts in doubt."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import click
from rich.console import Console

from pipeline import clients, stages
from pipeline.apis.http import HttpClient, HttpLimits
from pipeline.apis.igdb import MAX_OPEN, Igdb, Token, TwitchApplication
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam, SteamStore
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import CatalogueLookup
from pipeline.cli.output import ImportReport, summary_table
from pipeline.errors import PipelineError
from pipeline.frames.catalogue import Lifetimes
from pipeline.settings import Settings
from pipeline.storage.keys import parse_checkpoint_key
from schemas.events import EnrichEvent, FetchEvent, LoadEvent, LoadResponse
from tests.live.exchanges import Exchange, Recording
from tests.live.facts import FACTS, Verdict, owned, rows_of, rows_of_parts
from tests.live.probes import Subject, probe_igdb, probe_steam, secret_of

SOME_APPID = 620
ASK_ANYWAY = Lifetimes(timedelta(0), timedelta(0))
"""What the catalogue knows would leave nothing to watch."""


@dataclass
class Checked:
    """What a live check did; `error` is that of the stage that failed."""

    report: ImportReport
    again: LoadResponse | None = None
    error: PipelineError | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def written_again(self) -> dict[str, int]:
        """Rows that the second load of the same file wrote, which should be none."""
        stats = (self.again and self.again.stats) or {}
        return {what: rows for what, rows in stats.items() if rows and what.endswith(("_created", "_updated"))}


def check(settings: Settings, user_id: str, steam_id: str, policy: RetryPolicy) -> Checked:
    """Run the stages, load twice, probe, and print what was seen: never more than the redacted recording."""
    secrets = (settings.steam_api_key, settings.igdb_client_secret, settings.database_url)
    recording, token = Recording([*map(secret_of, secrets), str(settings.igdb_client_id)]), Token()
    checked = Checked(ImportReport(user_id))
    try:
        asyncio.run(_fetch_and_enrich(settings, steam_id, policy, recording, token, checked.report))
        checked.again = _load_twice(settings, checked.report)
    except PipelineError as error:
        checked.error = error
    asyncio.run(_probe(settings, token, recording, _subject(recording, checked.report)))
    checked.verdicts = {fact.text: fact.judge(recording) for fact in FACTS}
    for line in _told(checked, recording):
        click.echo(recording.redact(line))
    return checked


async def _fetch_and_enrich(
    settings: Settings, steam_id: str, policy: RetryPolicy, recording: Recording, token: Token, report: ImportReport
) -> None:
    store, user_id = clients.open_store(settings), str(report.user_id)
    recording.label = "fetch"
    steam_limiter = RateLimiter(settings.steam_requests_per_second, settings.steam_concurrency)
    key = secret_of(settings.steam_api_key)
    async with Steam(_http(recording, settings.steam_api_url), key, policy, steam_limiter) as steam:
        report.steam_id64 = await stages.find_account(steam, steam_id)
        report.fetch = await stages.fetch(store, steam, FetchEvent(user_id=user_id, steam_id64=report.steam_id64))
    recording.label = "enrich"
    igdb = Igdb(
        _http(recording, settings.igdb_api_url),
        TwitchApplication(
            str(settings.igdb_client_id), secret_of(settings.igdb_client_secret), settings.twitch_token_url
        ),
        policy,
        RateLimiter(settings.igdb_requests_per_second, MAX_OPEN),
        token=token,
    )
    steam_store = SteamStore(_http(recording, settings.steam_store_api_url), policy)
    async with igdb, steam_store:
        knowledge = CatalogueLookup(CatalogueFiles(store), igdb, steam_store, ASK_ANYWAY)
        event = EnrichEvent(user_id=user_id, s3_location=str(report.fetch.s3_location))
        report.enrich = await stages.enrich(store, knowledge, event)


def _http(recording: Recording, url: str) -> HttpClient:
    return HttpClient(url, HttpLimits(), recording.transport())


def _load_twice(settings: Settings, report: ImportReport) -> LoadResponse:
    location = str(report.enrich and report.enrich.s3_enriched_location)
    user_id = parse_checkpoint_key(clients.open_store(settings).key_of(location), "enriched").user_id
    event = LoadEvent(user_id=user_id, s3_enriched_location=location)
    report.load = stages.load_with_settings(settings, event)
    return stages.load_with_settings(settings, event)


async def _probe(settings: Settings, token: Token, recording: Recording, subject: Subject) -> None:
    await probe_steam(settings, recording, subject)
    if token.is_fresh():
        await probe_igdb(settings, token, recording, subject)


def _subject(recording: Recording, report: ImportReport) -> Subject:
    """What the stages saw: an app of the library, and its games on IGDB by the rows of external_games."""
    rows = [row for exchange in recording.to("/external_games") for row in rows_of(exchange)]
    rows += [row for exchange in recording.to("/multiquery") for row in rows_of_parts(exchange)]
    appid_of = {row["game"]: int(row["uid"]) for row in rows if "game" in row and str(row.get("uid")).isdecimal()}
    appid = next((row["appid"] for row in owned(recording)), SOME_APPID)
    return Subject(report.steam_id64 or "", appid, appid_of)


def _told(checked: Checked, recording: Recording) -> Iterator[str]:
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(summary_table(checked.report))
    yield captured.get().rstrip()
    yield (
        f"Second load     {checked.written_again or 'created and updated nothing'}" if checked.again else "Not loaded."
    )
    if checked.error:
        yield f"FAILED          {checked.error}"
    yield "\nWhat was asked:"
    yield from _by_address(recording.exchanges)
    yield "\nWhat the reference leaves uncertain:"
    for text, verdict in checked.verdicts.items():
        yield f"  {verdict.word:12} {text}\n{'':15}{verdict.evidence}"


def _by_address(exchanges: list[Exchange]) -> Iterator[str]:
    """A line for each address: how often, with which statuses, how slow, how large."""
    groups = defaultdict(list)
    for exchange in exchanges:
        groups[exchange.path].append(exchange)
    for path, group in groups.items():
        statuses = " ".join(sorted({str(exchange.status) for exchange in group}))
        slowest, largest = max(one.seconds for one in group), max(len(one.text) for one in group)
        yield f"  {len(group):3} x {path:45} status {statuses:12} up to {slowest:5.2f} s {largest:10,} characters"
