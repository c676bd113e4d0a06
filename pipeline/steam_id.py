"""Parse the forms in which people write a Steam account.

A SteamID64 is made of universe (8 bits), type (4), instance (20) and account id (32). Personal accounts, the only ones
accepted here, have universe 1, type 1 and instance 1 (Valve's developer wiki, "SteamID").
"""

import re
from dataclasses import dataclass

from pipeline.errors import Refused

_PERSONAL = 0x0110000100000000
"""The universe, type and instance of a personal account as bits; its SteamID64 is this plus its account id."""

_FORMS = (
    re.compile(r"(?P<steam_id64>\d{17})", re.ASCII),
    re.compile(r"STEAM_[01]:(?P<y>[01]):(?P<z>\d{1,10})", re.IGNORECASE | re.ASCII),
    re.compile(r"(?P<open>\[)?U:1:(?P<account_id>\d{1,10})(:1)?(?(open)\])", re.IGNORECASE | re.ASCII),
    re.compile(r"(https?://)?s\.team/p/(?P<invite>[bcdfghjkmnpqrtvw-]{1,9})/?", re.IGNORECASE | re.ASCII),
)

_PROFILE = re.compile(
    r"(https?://)?((www\.)?steamcommunity\.com|my\.steamchina\.com)/(?P<form>profiles|id|openid/id)/(?P<who>[^/?#\s]+)"
    r"([/?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)

_VANITY = re.compile(r"[A-Za-z0-9_-]{2,32}", re.ASCII)
_INVITE_DIGITS = str.maketrans("bcdfghjkmnpqrtvw", "0123456789abcdef")
HINT = "Give a SteamID64 (17 digits from 76561197960265729), a profile link, or the custom URL's name."


@dataclass(frozen=True)
class Vanity:
    """The name in a custom profile URL, which only Steam can resolve to an account."""

    name: str


def parse_steam_id(text: str) -> str | Vanity:
    """Return the SteamID64 in any form of Steam id, or the Vanity name of a custom URL that Steam has to resolve.

    Raises:
        Refused: `bad_steam_id`, if the text has no accepted form; the message lists them.
    """
    text = text.strip()
    profile = _PROFILE.fullmatch(text)
    if profile and profile["form"].lower() == "id":
        return _parse_vanity(profile["who"])
    who = profile["who"] if profile else text
    for form in _FORMS:
        if found := form.fullmatch(who):
            return _to_steam_id64(_account_id(found.groupdict()), text)
    if profile or re.fullmatch(r"\d{11,}", who):
        raise Refused("bad_steam_id", f"{text!r:.80} is not a personal Steam account. {HINT}")
    return _parse_vanity(who)


def _parse_vanity(name: str) -> Vanity:
    if not _VANITY.fullmatch(name):
        raise Refused("bad_steam_id", f"{name!r:.80} is not a Steam id in any form. {HINT}")
    return Vanity(name)


def _account_id(parts: dict[str, str]) -> int:
    if "steam_id64" in parts:
        return int(parts["steam_id64"]) - _PERSONAL
    if "z" in parts:
        return 2 * int(parts["z"]) + int(parts["y"])
    if "invite" in parts:
        return int(parts["invite"].lower().replace("-", "").translate(_INVITE_DIGITS) or "0", 16)
    return int(parts["account_id"])


def _to_steam_id64(account_id: int, text: str) -> str:
    if not 1 <= account_id < 2**32:
        raise Refused("bad_steam_id", f"{text!r:.80} is not the id of a personal Steam account. {HINT}")
    return str(_PERSONAL + account_id)
