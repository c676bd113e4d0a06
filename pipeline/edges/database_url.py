"""DATABASE_URL as libpq reads it: what of it may be shown, and that no password travels in the clear."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from pipeline.addresses import is_here
from pipeline.errors import Refused

_HOST = r"(?:\[[^\]@/?]*\]|[^@/?:,\[\]]*)(?::\d*)?"
"""With a port that is one: a host is shown, and what stands there may be a password."""

FORM = re.compile(
    r"postgres(?:ql)?://(?:[^:@/]*(?::(?P<password>[^@/]*))?@)?"
    rf"(?P<host>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?@]*))?(?:\?(?P<query>.*))?"
)
"""A database with an @ is none: what stands before it is a password with a slash in it."""

_BEFORE_AT = re.compile(r"\S+@")
ENCRYPTED = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Address:
    """A database's URL, and what of it may be shown."""

    url: str = field(repr=False)
    connect_timeout_seconds: int = 10

    def __post_init__(self) -> None:
        """Raises `configuration` for a URL that libpq might read otherwise than we do, or that wants no encryption."""
        if not FORM.fullmatch(self.url):
            raise Refused(
                "configuration",
                "DATABASE_URL is not of the form postgresql://user:password@host:port/database; in its parts write @ "
                "as %40, and in user and password / as %2F.",
            )
        if self._is_of_service() and not self._option("sslmode"):
            raise Refused(
                "configuration",
                "DATABASE_URL leaves it to a service's file how it is encrypted. Add sslmode to it, one of "
                f"{', '.join(ENCRYPTED)}.",
            )
        if self._is_elsewhere() and self._option("sslmode", "require") not in ENCRYPTED:
            raise Refused(
                "configuration",
                "DATABASE_URL has an sslmode by which the password could travel in the clear to another machine. Leave "
                f"it out, or choose one of {', '.join(ENCRYPTED)}.",
            )

    def __str__(self) -> str:
        """Database and host, never user nor password."""
        host = self._part("host") or self._option("host") or "localhost"
        database = self._part("database") or self._option("dbname") or "the default database"
        return _BEFORE_AT.sub("***@", f"{database} at {host}")

    @property
    def libpq_url(self) -> str:
        """The URL with a limit on connecting, which libpq has not, and with encryption to others, which it only tries.

        The last sslmode wins, over PGSSLMODE too, whose word counts only where it is strict.
        """
        added = [] if self._option("connect_timeout") else [f"connect_timeout={self.connect_timeout_seconds}"]
        if self._is_elsewhere():
            said = os.environ.get("PGSSLMODE", "")
            added.append(f"sslmode={self._option('sslmode', said if said in ENCRYPTED else 'require')}")
        joint = "?" if self._part("query") is None else "&"
        return f"{self.url}{joint}{'&'.join(added)}" if added else self.url

    def redact(self, text: str) -> str:
        """The text without the URL's password, as written there and decoded, and without what looks like one."""
        written = {self._part("password"), *re.findall(r"password=([^&]*)", self._part("query") or "")} - {None, ""}
        for secret in written | {unquote(secret) for secret in written}:
            text = text.replace(secret, "***")
        return _BEFORE_AT.sub("***@", text)

    def _is_elsewhere(self) -> bool:
        """Whether any of the hosts is another machine; libpq finds them in the environment, or a file, too."""
        if self._is_of_service():
            return True
        named = [re.sub(r":\d*$", "", host).strip("[]") for host in unquote(self._part("host") or "").split(",")]
        named += [os.environ.get("PGHOST", "")] if not any(named) and not self._option("host") else []
        named += [self._option("host") or "", self._option("hostaddr") or os.environ.get("PGHOSTADDR", "")]
        return not all(_is_here(host) for names in named for host in names.split(","))

    def _is_of_service(self) -> bool:
        return bool(self._option("service") or "PGSERVICE" in os.environ)

    def _part(self, name: str) -> str | None:
        found = FORM.fullmatch(self.url)
        return found and found[name]

    def _option(self, name: str, unset: str | None = None) -> str | None:
        return parse_qs(self._part("query") or "", keep_blank_values=True).get(name, [unset])[-1]


def _is_here(host: str) -> bool:
    """Whether a host of libpq is this machine: one that begins so is a socket, as is none."""
    return not host or host.startswith(("/", "@")) or is_here(host)
