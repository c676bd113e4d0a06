"""The settings of this process: one frozen object, read once from options, the environment and `.env`.

Secrets print as ***. The addresses and the proxy that requests go to are checked here too.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import Refused

WHERE_TO_GET = {
    "steam_api_key": "STEAM_API_KEY: a key for the Steam Web API, from https://steamcommunity.com/dev/apikey",
    "igdb_client_id": "IGDB_CLIENT_ID: the client id of a Twitch application, from https://dev.twitch.tv/console/apps",
    "igdb_client_secret": "IGDB_CLIENT_SECRET: the client secret of that Twitch application",
    "database_url": "DATABASE_URL: SavePoint's database, as postgresql://user:password@host/database",
    "store": "S3_BUCKET: the bucket for the CSVs (or STORE_URL: s3://bucket/prefix, or a directory)",
}

DATA = Path("data")
"""The default folder of the CSVs and of the embedded database, where STORE_URL names no other."""

FILE_MAX_BYTES = 2**28
"""The default limit of a file that people bring, such as a list of users: 256 MiB, some five million users."""


_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\]")
"""A host that DNS and all HTTP libraries take: pydantic also takes `a..b`, which no retry would ever reach."""


def absolute_path(path: str | Path) -> Path:
    """Return a path that a person gave as an absolute one, from the current folder; `~` is a home.

    Raises:
        Refused: `configuration`, if there is no such home, or the current folder is gone.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise Refused("configuration", f"{path}: this machine knows no such home. Write the whole path.") from None
    except FileNotFoundError:
        raise Refused("configuration", f"{path}: the current folder is gone. Change to one that is there.") from None


def is_this_machine(host: str) -> bool:
    """Return True if a host name or IP address is this machine's own."""
    try:
        return host.lower() == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_encrypted(address: str) -> str:
    """Return a URL, normalised, if keys may be sent to it: it is https, or http to this machine.

    Raises:
        ValueError: Keys may not be sent to it. The message does not quote the address, which may hold a password.
    """
    url = _parse_address(address)
    if url is None or url.username or url.password or (url.scheme == "http" and not is_this_machine(str(url.host))):
        raise ValueError("give an address that begins with https:// (http:// only leads to this machine, 127.0.0.1)")
    return str(url).removesuffix("/") if url.path == "/" else str(url)


def is_key(text: str) -> bool:
    """Return True if a text can be sent as a key in HTTP headers and URLs: printable ASCII without blanks."""
    return re.fullmatch(r"[!-~]+", text) is not None


def _parse_address(address: str) -> HttpUrl | None:
    """Return an http or https URL without blanks, parsed; None for any other text."""
    try:
        url = HttpUrl(address) if is_key(address) else None
    except ValidationError:
        return None
    return url if url and _HOST.fullmatch(url.host or "") else None


def _require_key(secret: SecretStr) -> SecretStr:
    if not is_key(secret.get_secret_value()):
        raise ValueError("it may hold ASCII letters, digits and signs only; in a URL write others as %20 and so on")
    return secret


Key = Annotated[SecretStr, AfterValidator(_require_key)]
Address = Annotated[str, AfterValidator(require_encrypted)]


class Settings(BaseSettings):
    """The settings of the pipeline: each field is read from the environment variable of its name in capitals.

    An empty variable counts as unset.
    """

    model_config = SettingsConfigDict(frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore")

    steam_api_key: Key | None = Field(None, description="Key of the Steam Web API")
    igdb_client_id: str | None = Field(  # sent in a header
        None, pattern=r"^[!-~]*$", description="Client id of a Twitch application, for IGDB"
    )
    igdb_client_secret: Key | None = Field(None, description="Client secret of that Twitch application")
    database_url: Key | None = Field(
        None, description="URL of SavePoint's database; on the command line an embedded PostgreSQL if unset"
    )
    # A secret is read from AWS when a client needs it, and only if its value is not set here.
    steam_api_key_secret_arn: str | None = Field(None, description="ARN in AWS of STEAM_API_KEY")
    igdb_client_id_secret_arn: str | None = Field(None, description="ARN in AWS of IGDB_CLIENT_ID")
    igdb_client_secret_secret_arn: str | None = Field(None, description="ARN in AWS of IGDB_CLIENT_SECRET")
    database_url_secret_arn: str | None = Field(None, description="ARN in AWS of DATABASE_URL")
    s3_bucket: str | None = Field(None, description="Bucket of the CSVs and the catalogue")
    store_url: str | None = Field(
        None,
        description="Store of the CSVs and the catalogue, s3://bucket[/prefix] or a directory; before S3_BUCKET; "
        "./data on the command line if neither is set",
    )
    aws_region: str | None = Field(None, description="AWS region of the bucket and the secrets")
    aws_endpoint_url_s3: Address | None = Field(None, description="URL of an S3 other than AWS's own")
    steam_api_url: Address = Field("https://api.steampowered.com", description="Base URL of the Steam Web API")
    steam_store_api_url: Address = Field("https://api.steampowered.com", description="Base URL of Steam's store")
    igdb_api_url: Address = Field("https://api.igdb.com/v4", description="Base URL of IGDB's API")
    twitch_token_url: Address = Field("https://id.twitch.tv/oauth2/token", description="URL of Twitch's token endpoint")
    igdb_multiquery: Literal["on", "off"] = Field("on", description="Whether several queries go in one request to IGDB")
    # IGDB counts 4 requests in any sliding second. A bucket of four that refills lets seven through at first. At 3.6 a
    # second, evenly spaced, a fifth never falls into the same second, with 0.11 s to spare for a slow connection.
    igdb_requests_per_second: float = Field(3.6, gt=0, le=1_000, description="Most requests a second to IGDB")
    steam_requests_per_second: float = Field(10, gt=0, le=1_000, description="Most requests a second to Steam")
    steam_processes: int = Field(default=1, ge=1, le=1_000, description="How many processes share the rate")
    steam_concurrency: int = Field(8, ge=1, le=1_000, description="Most libraries that are fetched at once")
    steam_requests_per_day: int = Field(
        100_000, ge=1, description="Most requests a day that a backfill plans; Steam's terms allow one key 100,000"
    )
    catalogue_ttl_days: float = Field(
        30, gt=0, le=36_500, description="Days after which a known app is looked up again"
    )
    catalogue_miss_ttl_days: float = Field(
        7, gt=0, le=36_500, description="Days after which an app that IGDB did not list is looked up again"
    )
    status_unplayed: str | None = Field(
        None, description="LibraryItem.status of a game without playtime; by the database's enum if unset"
    )
    status_played: str | None = Field(
        None, description="LibraryItem.status of a game with playtime; by the database's enum if unset"
    )
    status_recent: str | None = Field(
        None, description="LibraryItem.status of a game played in the week before the fetch; by the enum if unset"
    )
    statement_timeout_seconds: float | None = Field(
        None, gt=0, le=86_400, description="Most seconds of one SQL statement; the database's own limit if unset"
    )
    lock_timeout_seconds: float | None = Field(
        None, gt=0, le=86_400, description="Most seconds of waiting for a lock; the database's own limit if unset"
    )
    http_timeout_seconds: float = Field(20, gt=0, description="Most seconds of each step of an HTTP request")
    http_answer_seconds: float = Field(120, gt=0, description="Most seconds of one whole HTTP answer")
    http_max_bytes: int = Field(2**25, gt=0, description="Most bytes of one HTTP answer, unpacked")
    file_max_bytes: int = Field(
        FILE_MAX_BYTES, gt=0, description="Most bytes of a file that people bring, such as a list of users"
    )
    retry_attempts: int = Field(5, ge=1, description="Most attempts of each request")
    retry_base_seconds: float | None = Field(
        None,
        ge=0,
        description="Seconds before the first retry, later ones wait longer; 5 for Steam, 1 else if unset",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Least severe log lines to print; WARNING on a terminal if unset"
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="Format of the log; json in Lambda and console on the command line if unset"
    )

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Return the settings from overrides, the environment and `.env`; an empty or None override is ignored.

        Raises:
            Refused: `configuration`, naming every setting whose value is invalid, without the value.
        """
        given = {name: value for name, value in overrides.items() if value not in (None, "")}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
            raise Refused(
                "configuration", f"Fix these settings, in the environment, in .env or among the options: {wrong}."
            ) from None
        except UnicodeDecodeError as error:
            raise Refused(
                "configuration", f"The file .env is not UTF-8, from byte {error.start} on. Save it as UTF-8."
            ) from None
        except OSError as error:
            raise Refused(
                "configuration", f"The file .env cannot be read: {error.strerror}. Make it readable, or move it away."
            ) from None

    def has(self, name: str) -> bool:
        """Return True if a setting has a value, or an ARN under which AWS keeps its value."""
        return bool(getattr(self, name) or getattr(self, f"{name}_secret_arn", None))

    def require(self, *names: str) -> None:
        """Check that settings have values, given their field names.

        Raises:
            Refused: `configuration`, naming every missing setting and where to get its value.
        """
        missing = [name for name in names if not self.has(name)]
        if missing:
            listed = "\n".join(f"  {WHERE_TO_GET[name]}" for name in missing)
            raise Refused("configuration", f"Set these in the environment or in .env:\n{listed}")

    @property
    def store(self) -> str | None:
        """The URL or directory of the store: STORE_URL, else the bucket S3_BUCKET; None if both are unset."""
        return self.store_url or (f"s3://{self.s3_bucket}" if self.s3_bucket else None)

    def with_default_store(self) -> Self:
        """Return a copy of the settings that has the folder `./data` as the store if they name none."""
        return self if self.store else self.model_copy(update={"store_url": str(DATA)})


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy to use for a server, or None; http is for this machine only, and has no proxy.

    Raises:
        Refused: `configuration`, if the proxy cannot be used; it is not quoted, as it may hold a password.
    """
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if scheme != "https" or not proxy or proxy_bypass(host):
        return None
    url = _parse_address(proxy if "://" in proxy else f"http://{proxy}")
    if url is None:
        raise Refused("configuration", "HTTPS_PROXY or ALL_PROXY is not a usable proxy: give http://host:port.")
    return str(url).removesuffix("/")
