"""What all clients of a process share, from one invocation of a warm function to the next."""

from functools import cache
from typing import TYPE_CHECKING

from pipeline.catalogue_files import Memory
from pipeline.edges.pace import Rhythm

if TYPE_CHECKING:
    from pipeline.edges.twitch import Token


@cache
def memory(_place: str) -> Memory:
    """One catalogue for all invocations of a warm Lambda."""
    return Memory()


@cache
def rhythm(_client_id: str) -> Rhythm:
    """One pace for all clients of a process: the four requests a second belong to the account."""
    from pipeline.edges.igdb import SECONDS_PER_REQUEST  # noqa: PLC0415 - a stage imports only what it needs

    return Rhythm(SECONDS_PER_REQUEST)


@cache
def token(_client_id: str, _secret_sha256: str, _token_url: str) -> "Token":
    """One token for all clients of a process: Twitch keeps 25 alive an application, a warm Lambda needs one."""
    from pipeline.edges.twitch import Token  # noqa: PLC0415 - a stage imports only what it needs

    return Token()
