"""Every way people write a Steam account; pure.

SteamID64 = universe (8 bits), type (4), instance (20), account id (32); only personal accounts are accepted:
universe 1, type 1, instance 1 (Valve's developer wiki, "SteamID").
"""

import re
from dataclasses import dataclass

from pipeline.errors import Refused

_BASE = 0x0110000100000000

_FORMS = (
    re.compile(r"(?P<steam_id64>\d{17})", re.ASCII),
    re.compile(r"STEAM_[01]:(?P<y>[01]):(?P<z>\d{1,10})", re.IGNORECASE | re.ASCII),
    re.compile(r"(?P<open>\[)?U:1:(?P<account_id>\d{1,10})(:1)?(?(open)\])", re.IGNORECASE | re.ASCII),
    re.compile(r"(https?://)?s\.team/p/(?P<invite>[bcdfghjkmnpqrtvw-]{1,9})/?", re.IGNORECASE | re.ASCII),
)

_PROFILE = re.compile(
    r"(https?://)?(www\.)?steamcommunity\.com/(?P<form>profiles|id)/(?P<who>[^/?#\s]+)([/?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)

_VANITY = re.compile(r"[A-Za-z0-9_-]{2,32}", re.ASCII)
_INVITE = str.maketrans("bcdfghjkmnpqrtvw", "0123456789abcdef")
HINT = "Give a SteamID64 (17 digits from 76561197960265729), a profile link, or the custom URL's name."


@dataclass(frozen=True)
class Vanity:
    """The name in a custom profile URL; Steam has to be asked whose it is."""

    name: str


def parse_steam_id(text: str) -> str | Vanity:
    """A SteamID64 as text, or the vanity name to resolve.

    Raises:
        Refused: `bad_steam_id`, saying which forms are understood.
    """
    text = text.strip()
    profile = _PROFILE.fullmatch(text)
    if profile and profile["form"].lower() == "id":
        return _vanity(profile["who"])
    who = profile["who"] if profile else text
    for form in _FORMS:
        if found := form.fullmatch(who):
            return _personal(_account_id(found.groupdict()), text)
    if profile or re.fullmatch(r"\d{11,}", who):
        raise Refused("bad_steam_id", f"{text!r:.80} is not a personal Steam account. {HINT}")
    return _vanity(who)


def _vanity(name: str) -> Vanity:
    if not _VANITY.fullmatch(name):
        raise Refused("bad_steam_id", f"{name!r:.80} is no form of Steam id. {HINT}")
    return Vanity(name)


def _account_id(parts: dict[str, str]) -> int:
    if "steam_id64" in parts:
        return int(parts["steam_id64"]) - _BASE
    if "z" in parts:
        return 2 * int(parts["z"]) + int(parts["y"])
    if "invite" in parts:
        return int(parts["invite"].lower().replace("-", "").translate(_INVITE) or "0", 16)
    return int(parts["account_id"])


def _personal(account_id: int, text: str) -> str:
    if not 1 <= account_id < 2**32:
        raise Refused("bad_steam_id", f"{text!r:.80} is not the id of a personal Steam account. {HINT}")
    return str(_BASE + account_id)
