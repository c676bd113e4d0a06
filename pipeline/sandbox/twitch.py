"""Twitch's token endpoint (https://dev.twitch.tv/docs/authentication/getting-tokens-oauth)."""

import secrets
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp import web

from pipeline.sandbox.wire import Asked, json_answer, phrase

LIVE_TOKENS = 25
"""Number of valid tokens Twitch keeps for one application; a new one invalidates the oldest."""

MESSAGES = {400: "invalid client", 403: "invalid client secret"}
"""Twitch's messages for a wrong client id and a wrong secret, as client libraries rely on them."""


@dataclass
class Twitch:
    """The token endpoint: mints app tokens that are valid for `token_seconds`."""

    client_id: str
    client_secret: str
    token_seconds: int
    minted: int = 0
    _expiry_of: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=LIVE_TOKENS))

    def answer(self, asked: Asked) -> web.Response:
        """Mint a token for the right id, secret and grant, sent as a form or in the query string."""
        if (asked.method, asked.path) != ("POST", "/oauth2/token"):
            return self.error(404)
        if asked.params.get("client_id") != self.client_id:
            return self.error(400)
        if asked.params.get("client_secret") != self.client_secret:
            return self.error(403)
        if asked.params.get("grant_type") != "client_credentials":
            return json_answer({"status": 400, "message": "invalid grant type"}, 400)
        return json_answer({"access_token": self._mint(), "expires_in": self.token_seconds, "token_type": "bearer"})

    def error(self, status: int) -> web.Response:
        """Return Twitch's error object with this status."""
        return json_answer({"status": status, "message": MESSAGES.get(status, phrase(status))}, status)

    def accepts(self, token: str) -> bool:
        """Return whether the token was minted here and is neither expired nor revoked."""
        return any(token == live and time.monotonic() < expiry for live, expiry in self._expiry_of)

    def revoke(self) -> None:
        """Revoke every token minted so far."""
        self._expiry_of.clear()

    def _mint(self) -> str:
        token = secrets.token_hex(15)
        self._expiry_of.append((token, time.monotonic() + self.token_seconds))
        self.minted += 1
        return token
