"""Events and responses of the Lambda functions, whose keys are the contract with SavePoint and the state machines."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ErrorCode = Literal[
    "bad_event",
    "bad_steam_id",
    "configuration",
    "bad_steam_key",
    "bad_igdb_credentials",
    "private_library",
    "account_not_found",
    "steam_blocked",
    "location_refused",
    "checkpoint_invalid",
    "user_not_found",
    "schema_mismatch",
    "steam_rate_limited",
    "steam_unavailable",
    "steam_bad_answer",
    "igdb_unavailable",
    "store_unavailable",
    "database_unavailable",
]

Stage = Literal["fetch", "enrich", "load", "backfill", "catalogue", "forget"]
USER_ID = r"^[A-Za-z0-9_-]{1,64}$"
USER_ID_RULE = "a user id has 1 to 64 letters, digits, hyphens or underscores"
STEAM_BEGAN = 2003
KEY_TIME = "%Y%m%dT%H%M%SZ"


def to_key_time(text: object) -> object:
    """Return a time in the form that keys in the store have: `YYYYMMDDTHHMMSSZ` in UTC.

    `text` has that form or ISO 8601; without a zone it is in UTC. Anything but a text is returned unchanged.

    Raises:
        ValueError: The text is not a time, or is a time before Steam began (2003).
    """
    if not isinstance(text, str):
        return text
    if not (text.isascii() and text.isprintable()):  # Python ignores a NUL at the end
        raise ValueError(f"{text!r:.40} is not a time")
    time = datetime.fromisoformat(text)
    if time.year < STEAM_BEGAN:
        raise ValueError(f"{text} is before Steam began")
    try:
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).strftime(KEY_TIME)
    except OverflowError:
        raise ValueError(f"{text} is out of range in UTC") from None


def _check_user_id(user_id: str) -> str:
    if not re.fullmatch(USER_ID, user_id):
        raise ValueError(USER_ID_RULE)
    return user_id


UserId = Annotated[str, AfterValidator(_check_user_id)]
KeyTime = Annotated[str, BeforeValidator(to_key_time)]


class HandlerEvent(BaseModel):
    """The keys that events of all Lambda functions may have; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True)
    stage: ClassVar[Stage]
    """The name of the work that the event starts, for log lines and metrics."""

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,256}$")] | None = None


class StageEvent(HandlerEvent):
    """The keys that the events of fetch, enrich and load have in common."""

    user_id: UserId
    timestamp: KeyTime | None = None


class FetchEvent(StageEvent):
    """The event of a fetch: the user, and in `steam_id64` any form of Steam id."""

    stage = "fetch"
    steam_id64: str


class EnrichEvent(StageEvent):
    """The event of an enrichment: the user, and in `s3_location` the location of a raw CSV.

    Without `look_up` nobody is asked: apps that the catalogue lacks are PENDING, and wanted from the next look-up.
    """

    stage = "enrich"
    s3_location: str
    look_up: bool = True


class LoadEvent(StageEvent):
    """The event of a load: the user, and in `s3_enriched_location` the location of an enriched CSV."""

    stage = "load"
    s3_enriched_location: str


class EnrichStats(BaseModel):
    """The numbers of rows of an enriched CSV, by match status.

    `igdb_incomplete` counts the unmatched rows whose game IGDB has with invalid values.
    """

    processed: int
    matched: int
    unmatched: int
    filtered: int
    pending: int
    igdb_incomplete: int = 0


class StageResponse(BaseModel):
    """The fields of every Lambda function's response: success, an error and its code, and the number of rejected rows.

    `seconds` and `requests` (to all APIs) are shown on the command line, and left out of a function's response;
    `retries` is for metrics alone.
    """

    success: bool
    error: str | None = None
    error_code: ErrorCode | None = None
    rejected: int | None = Field(default=None, description="Rows in the stage's rejected CSV")
    seconds: float = 0.0
    requests: int = 0
    retries: int = Field(default=0, exclude=True, description="Requests that repeated a failed one, for the metrics")

    @classmethod
    def failed(cls, code: ErrorCode, message: str) -> Self:
        """Return the response of a stage that ended with an error, from the error's code and message."""
        return cls(success=False, error=message, error_code=code)

    def to_lambda_response(self) -> dict[str, Any]:
        """Return the response as a dict of JSON types with every key, as a Lambda function returns it."""
        return self.model_dump(mode="json", exclude={"seconds", "requests"})


class FetchResponse(StageResponse):
    """The response of a fetch: the location of the raw CSV, and in `game_count` its number of rows."""

    s3_location: str | None = None
    game_count: int | None = None


class EnrichResponse(StageResponse):
    """The response of an enrichment: the location of the enriched CSV, and the numbers of its rows by match status."""

    s3_enriched_location: str | None = None
    stats: EnrichStats | None = None
    kinds: dict[str, int] = Field(default={}, exclude=True, description="Number of apps by kind, for people")


class DryRun(BaseModel):
    """The result of a dry run of a load: how many rows it would write and, if asked, which values it would change."""

    tables: list[dict[str, str | int]]
    changes: list[dict[str, str | None]]


class ChangedGame(BaseModel):
    """A game that changed between two imports, with its present name.

    By the kind of change it has its old name, the minutes that were played in between, or its present IGDB id.
    """

    model_config = ConfigDict(frozen=True)

    appid: int
    name: str | None
    old_name: str | None = None
    minutes_played: int = 0
    igdb_id: int | None = None


class ChangeSummary(BaseModel):
    """The games that changed between two imports of a user, by kind of change, and the minutes played in between.

    `since` and `until` are the times of the imports as their keys have them; without an earlier import `since` is None
    and nothing has changed. Games are apps that are not filtered. `most_played` has at most five. Where playtimes
    of either import were hidden, `playtimes_hidden` is true and the minutes of these games are not counted.
    """

    model_config = ConfigDict(frozen=True)

    since: str | None = None
    until: str
    new_games: list[ChangedGame] = []
    no_longer_owned: list[ChangedGame] = []
    newly_matched: list[ChangedGame] = []
    renamed: list[ChangedGame] = []
    minutes_played_since: int = 0
    most_played: list[ChangedGame] = []
    playtimes_hidden: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether there is an earlier import that does not differ from the later one."""
        lists = (self.new_games, self.no_longer_owned, self.newly_matched, self.renamed)
        return self.since is not None and not any(lists) and not self.minutes_played_since


class LoadResponse(StageResponse):
    """The response of a load: `stats` holds the numbers of rows created and updated by table, and further counts."""

    stats: dict[str, int] | None = None
    dry_run: DryRun | None = Field(default=None, exclude=True, description="What a dry run would write")
    changes: ChangeSummary | None = Field(default=None, exclude=True, description="What changed, for people")


RUN_ID = r"^[A-Za-z0-9_-]{1,80}$"
"""The pattern of a backfill's run id: valid as the name of a Step Functions execution, and of a folder."""

DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE = 200, 1_000
"""Numbers of users in a shard: the default, and the most that are allowed."""

MAX_SHARDS = 100_000
"""The most shards of a backfill: their keys have numbers of five digits."""

FROM_DATABASE = "database"
"""The list of users that is no file: all users of the database's table who have a `steamId64`."""

ShardStep = Literal["fetch", "enrich", "load"]
SHARD_STEPS: tuple[ShardStep, ...] = ("fetch", "enrich", "load")
RunId = Annotated[str, Field(pattern=RUN_ID)]
ShardNumber = Annotated[int, Field(strict=True, ge=0, lt=MAX_SHARDS)]
ShardSize = Annotated[int, Field(strict=True, ge=1, le=MAX_SHARD_SIZE)]
FetchConcurrency = Annotated[int, Field(strict=True, ge=1, le=1_000)]
Step = Literal["plan", "fetch", "catalogue", "enrich", "load", "report"]


class BackfillEvent(HandlerEvent):
    """The event that asks for one step of a backfill; steps of one shard have the shard's number.

    The step `plan` takes the location of the list of users, `database` for all users of the database who have a
    `steamId64`, or none to continue a run; and the size of a shard. A `fetch` says how many shards are fetched at
    once, which share Steam's rate.
    """

    stage = "backfill"

    step: Step
    run_id: RunId
    users: str | None = None
    shard: ShardNumber | None = None
    shard_size: ShardSize | None = None
    fetch_concurrency: FetchConcurrency = 1

    @model_validator(mode="after")
    def _require_shard(self) -> Self:
        if self.step in SHARD_STEPS and self.shard is None:
            raise ValueError(f"{self.step} needs a shard")
        return self


class BackfillResponse(StageResponse):
    """The response of one step of a backfill; after the plan, with the key of the shards for Step Functions to map."""

    step: Step | None = None
    run_id: str | None = None
    shard: int | None = None
    shards: int | None = None
    bucket: str | None = None
    shards_key: str | None = None
    report: str | None = None
    stats: dict[str, int] | None = None


CatalogueStep = Literal["look_up", "sync", "compact"]


class CatalogueEvent(HandlerEvent):
    """The event that asks for one step of the catalogue: look up all wanted apps, sync with IGDB, or compact."""

    stage = "catalogue"
    step: CatalogueStep


class CatalogueResponse(StageResponse):
    """The response of one step of the catalogue, with counts: of a look-up `files`, `apps` and `unanswered`."""

    step: CatalogueStep | None = None
    stats: dict[str, int] | None = None


class ForgetEvent(HandlerEvent):
    """The event that asks to erase a user from the store, or in a dry run only what is there of the user."""

    stage = "forget"

    step: Literal["forget"] = "forget"
    user_id: UserId
    dry_run: bool = False


class ForgetResponse(StageResponse):
    """The response of erasing a user from the store, or of a dry run of that: what the store held of the user.

    `files` is the number of files of the user's imports, `lists` are the locations of the lists of users that named the
    user, and `backfills` the run ids of the backfills that did; all of them are erased or rewritten without the user.
    The database is not touched.
    """

    step: Literal["forget"] = "forget"
    user_id: str | None = None
    dry_run: bool = False
    files: int | None = None
    lists: list[str] | None = None
    backfills: list[str] | None = None
    last_loaded: bool | None = Field(default=None, description="Whether it was known what was last loaded")
