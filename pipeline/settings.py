"""The addresses of servers, and to which of them keys may travel.

One frozen object, read once from the environment and `.env`; secrets print as ***.

How requests leave this machine: by which proxy, and without a word about them in the log.
"""

import re
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import Refused

_NAME = r"(?!xn--)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"

_ADDRESS = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_NAME}(\.{_NAME})*|\[[0-9a-f:.]+\])(:(?P<port>\d{{1,5}}))?(/[!-~]{{0,2000}})?",
    re.IGNORECASE | re.ASCII,
)
"""What all libraries that use an address read alike; they have errors of their own for all else that looks like one."""

LONGEST_HOST = 253
LAST_PORT = 2**16 - 1


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(url: str) -> bool:
    """Whether it is http:// or https://, a host, and perhaps a port and a path."""
    found = _ADDRESS.fullmatch(url)
    return found is not None and _is_host(found["host"]) and int(found["port"] or 0) <= LAST_PORT


def is_plain(url: str) -> bool:
    """Whether what is sent to an address travels in the clear."""
    return url.lower().startswith("http://")


def require_encrypted(url: str) -> str:
    """The address, if keys may travel there: in the clear to this machine only; else raises ValueError."""
    found = _ADDRESS.fullmatch(url)
    if not (found and is_address(url)) or (is_plain(url) and not is_here(found["host"].strip("[]"))):
        raise ValueError("give an address that begins with https:// (http:// only leads to this machine, 127.0.0.1)")
    return url


def _is_host(host: str) -> bool:
    """A name that ends in a number is read as an IPv4 address, by some in octal or with parts left out."""
    if not host.startswith("[") and not host.rpartition(".")[2].isdigit():
        return len(host) <= LONGEST_HOST
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


WHERE_TO_GET = {
    "steam_api_key": "STEAM_API_KEY: a key for the Steam Web API, from https://steamcommunity.com/dev/apikey",
    "igdb_client_id": "IGDB_CLIENT_ID: the client id of a Twitch application, from https://dev.twitch.tv/console/apps",
    "igdb_client_secret": "IGDB_CLIENT_SECRET: the client secret of that Twitch application",
    "database_url": "DATABASE_URL: SavePoint's database, as postgresql://user:password@host/database",
    "store": "S3_BUCKET: the bucket for the CSVs (or STORE_URL: s3://bucket/prefix, or a directory)",
}

BARE = re.compile(r"[!-~]+")
"""What a key can be made of to travel in headers and addresses."""


def _bare(secret: SecretStr) -> SecretStr:
    if not BARE.fullmatch(secret.get_secret_value()):
        raise ValueError("it may hold ASCII letters, digits and signs only; in a URL write others as %20 and so on")
    return secret


Key = Annotated[SecretStr, AfterValidator(_bare)]
Url = Annotated[str, AfterValidator(require_encrypted)]


class Settings(BaseSettings):
    """Each field is the environment variable of its name in capitals; an empty one counts as unset."""

    model_config = SettingsConfigDict(frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore")

    steam_api_key: Key | None = None
    igdb_client_id: Annotated[str, Field(pattern=r"^[!-~]*$")] | None = None  # it travels in a header
    igdb_client_secret: Key | None = None
    database_url: Key | None = None
    # Where in AWS they lie, to be read when a client needs them; a value of their own wins.
    steam_api_key_secret_arn: str | None = None
    igdb_client_id_secret_arn: str | None = None
    igdb_client_secret_secret_arn: str | None = None
    database_url_secret_arn: str | None = None
    s3_bucket: str | None = None
    store_url: str | None = None
    aws_region: str | None = None
    aws_endpoint_url_s3: Url | None = None
    steam_api_url: Url = "https://api.steampowered.com"
    steam_store_api_url: Url = "https://api.steampowered.com"
    igdb_api_url: Url = "https://api.igdb.com/v4"
    twitch_token_url: Url = "https://id.twitch.tv/oauth2/token"
    igdb_multiquery: Literal["off", "each", "one"] = "off"
    steam_requests_per_second: float = Field(default=10, gt=0, le=1_000)
    steam_concurrency: int = Field(default=8, ge=1, le=1_000)
    steam_requests_per_day: int = Field(default=100_000, ge=1, description="What Steam's terms allow one key")
    catalogue_ttl_days: float = Field(default=30, gt=0, le=36_500)
    catalogue_miss_ttl_days: float = Field(default=7, gt=0, le=36_500)
    status_unplayed: str | None = None
    status_played: str | None = None
    statement_timeout_seconds: float | None = Field(default=None, gt=0, le=86_400)
    lock_timeout_seconds: float | None = Field(default=None, gt=0, le=86_400)
    http_timeout_seconds: float = Field(default=20, gt=0, description="Of each step of a request")
    http_answer_seconds: float = Field(default=120, gt=0, description="Of one whole answer")
    http_max_bytes: int = Field(default=2**25, gt=0, description="Of one answer, unpacked")
    http_max_rows: int = Field(default=200_000, gt=0, description="Objects and lists of one answer")
    csv_max_bytes: int = Field(default=2**28, gt=0, description="Of a CSV that is read")
    csv_max_lines: int = Field(default=5_000_000, gt=0, description="Of a CSV; a summary may have several")
    csv_max_columns: int = Field(default=1_000, gt=0, description="Polars takes a second for a header of 100,000")
    csv_max_record_chars: int = Field(
        default=2**20, gt=0, description="A hundred times those of a game with all its text"
    )
    json_max_bytes: int = Field(default=2**24, gt=0, description="Of a manifest, or a record of a backfill")
    catalogue_max_bytes: int = Field(default=2**30, gt=0, description="Of one of the catalogue's files")
    overrides_max_bytes: int = Field(default=2**24, gt=0, description="Of overrides.csv")
    parquet_max_bytes: int = Field(default=2**30, gt=0, description="Of a Parquet file, unpacked")
    sync_max_rows: int = Field(default=1_000_000, ge=5_000, description="Of each list of IGDB's that a sync reads")
    retry_attempts: int = Field(default=5, ge=1)
    retry_base_seconds: float | None = Field(default=None, ge=0, description="Unset: 1, for Steam 5")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] | None = None

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """The settings of this process; an override that is None or empty leaves the environment's word.

        Raises:
            Refused: `configuration`, naming every setting that holds nonsense, never its value.
        """
        given = {name: value for name, value in overrides.items() if value not in (None, "")}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
            raise Refused(
                "configuration", f"Mend these settings, in the environment, in .env or among the options: {wrong}."
            ) from None
        except UnicodeDecodeError as error:
            raise Refused(
                "configuration", f"The file .env is not UTF-8, from byte {error.start} on. Save it as UTF-8."
            ) from None

    def has(self, name: str) -> bool:
        """Whether this setting is there, or the ARN of where it lies."""
        return bool(getattr(self, name) or getattr(self, f"{name}_secret_arn", None))

    def require(self, *names: str) -> None:
        """Refuse to go on without these settings, naming all that are missing and where each is to be had.

        Raises:
            Refused: `configuration`.
        """
        missing = [name for name in names if not self.has(name)]
        if missing:
            listed = "\n".join(f"  {WHERE_TO_GET[name]}" for name in missing)
            raise Refused("configuration", f"Set these in the environment or in .env:\n{listed}")

    @property
    def store(self) -> str | None:
        """Where the checkpoints are: STORE_URL, else the bucket S3_BUCKET."""
        return self.store_url or (f"s3://{self.s3_bucket}" if self.s3_bucket else None)


_USER = re.compile(r"(?<=://)[^/?#@\s]*@")


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a server; none for plain http, which leads to this machine only.

    Raises:
        Refused: `configuration`, for one that cannot be used; it is not quoted, as it may hold a password.
    """
    if scheme != "https":
        return None
    named = getproxies()
    proxy = named.get("https") or named.get("all")
    if not proxy or proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not (proxy.isascii() and is_address(_USER.sub("", proxy, count=1))):
        raise Refused(
            "configuration", "HTTPS_PROXY, or ALL_PROXY, names no proxy that can be used: give http://host:port."
        )
    return proxy
