"""The token that IGDB asks for, from Twitch (https://dev.twitch.tv/docs/authentication)."""

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx

from pipeline.edges.http import cause, send
from pipeline.edges.igdb_answers import judge
from pipeline.errors import Refused, Retryable

MARGIN_SECONDS = 60.0
LONGEST_SECONDS = 2**31


@dataclass
class Token:
    """An app token, kept by whoever wants to use it for longer than one client lives."""

    value: str = field(default="", repr=False)
    expires_at: float = 0.0

    def is_fresh(self) -> bool:
        """Whether it can be used for another minute."""
        return time.time() < self.expires_at - MARGIN_SECONDS


class Twitch:
    """Mints tokens on behalf of one application, once, and again when one is refused or about to expire.

    Raises:
        Refused: `bad_igdb_credentials`.
        Retryable: `igdb_unavailable`.
    """

    def __init__(
        self, client: httpx.AsyncClient, token_url: str, client_id: str, client_secret: str, token: Token
    ) -> None:
        self._client = client
        self._token_url = token_url
        self._form = {"client_id": client_id, "client_secret": client_secret, "grant_type": "client_credentials"}
        self._token = token
        self._minting = asyncio.Lock()
        self.requests = 0

    async def token(self, refused: str | None = None) -> str:
        """The token in use, unless it is the one that was refused."""
        async with self._minting:
            if self._token.value == refused:
                self._token.expires_at = 0.0  # also where no new one can be had now
            if not self._token.is_fresh():
                self._token.value, self._token.expires_at = await self._mint()
            return self._token.value

    async def _mint(self) -> tuple[str, float]:
        self.requests += 1
        asked_at = time.time()
        answer = await send(self._client, "igdb_unavailable", "POST", self._token_url, data=self._form)
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(
                "bad_igdb_credentials",
                f"Twitch refuses IGDB_CLIENT_ID and IGDB_CLIENT_SECRET: {cause(answer)}. Compare them with the "
                "application on https://dev.twitch.tv/console/apps.",
            )
        match judge(answer):
            case {"access_token": str(token), "expires_in": int(seconds)} if _is_usable(token, seconds):
                return token, asked_at + seconds
            case _:
                raise Retryable("igdb_unavailable", "Twitch's answer holds no token and lifetime. Try again later.")


def _is_usable(token: str, seconds: int) -> bool:
    """Whether a header can hold the token, and a clock the time."""
    return token.isascii() and token.isprintable() and seconds < LONGEST_SECONDS
