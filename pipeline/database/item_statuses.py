"""The statuses that a load gives to new library items: by the settings, or else by what the database's enum has."""

from typing import NamedTuple

from pipeline.database.live_schema import LiveSchema
from pipeline.errors import Refused
from schemas.staging import LoadOptions


class ItemStatuses(NamedTuple):
    """The values of `LibraryItem.status` for new items: `unplayed` where the playtime is 0 or unknown, else `played`.

    `recent` is for a game that was last played in the week before the fetch, whatever its playtime; if it is None, such
    a game gets `played` or `unplayed` like any other.
    """

    unplayed: str
    played: str
    recent: str | None = None


DEFAULT_STATUSES = {
    "EXPERIENCED": ItemStatuses("CURIOUS_ABOUT", "EXPERIENCED"),
    "SHELF": ItemStatuses("SHELF", "SHELF", "PLAYING"),
    "OWNED": ItemStatuses("OWNED", "OWNED", "PLAYING"),
}
"""The default statuses by a value that the enum LibraryItemStatus has; the first that is there decides.

They are SavePoint's enums of 2025, of today, and of December 2025 to March 2026. In the last two PLAYED means finished:
a game with this status leaves the lists that bring its owner back, so no default assigns it.
"""


class ChosenStatus(NamedTuple):
    """A value of `LibraryItem.status` and why new items get it; None if the game's playtime alone decides."""

    status: str | None
    why: str


def choose_item_statuses(live: LiveSchema, options: LoadOptions) -> ItemStatuses:
    """Return the `LibraryItem.status` for new items: the settings' values, or else the defaults for the enum.

    Raises:
        Refused: `configuration`, naming the setting and the values of the enum, where the enum lacks a status.
    """
    values = live.enums["LibraryItemStatus"]
    chosen = explain_item_statuses(live, options)
    for name, (status, _) in chosen.items():
        if status not in values and not (name == "recent" and status is None):
            lacks = f"no {status}" if status else f"none of {', '.join(DEFAULT_STATUSES)}"
            raise Refused(
                "configuration",
                f"LibraryItemStatus of this database has {lacks}: set STATUS_{name.upper()} to one of "
                f"{', '.join(values)}.",
            )
    return ItemStatuses(**{name: status for name, (status, _) in chosen.items() if status})


def explain_item_statuses(live: LiveSchema, options: LoadOptions) -> dict[str, ChosenStatus]:
    """Return the status of each field of ItemStatuses with the reason for it, whether or not the enum has the status.

    A setting decides, or else the first value of DEFAULT_STATUSES that the enum has.
    """
    values = live.enums.get("LibraryItemStatus", ())
    decisive = next((value for value in DEFAULT_STATUSES if value in values), None)
    chosen = {}
    for name in ItemStatuses._fields:
        if setting := getattr(options, f"status_{name}"):
            chosen[name] = ChosenStatus(setting, f"STATUS_{name.upper()} is set")
        elif decisive:
            chosen[name] = ChosenStatus(getattr(DEFAULT_STATUSES[decisive], name), f"the enum has {decisive}")
        else:
            chosen[name] = ChosenStatus(None, f"the enum has none of {', '.join(DEFAULT_STATUSES)}")
    return chosen
