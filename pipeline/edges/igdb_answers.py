"""What IGDB and Twitch answer, and whether asking again helps."""

from http import HTTPStatus
from math import inf
from typing import Any

import httpx

from pipeline.edges.http import cause, decode, retry_after
from pipeline.errors import Retryable

PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
TOO_MUCH = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}


def judge(answer: httpx.Response) -> Any:  # noqa: ANN401 - each caller checks the shape it needs
    """The JSON of a good answer.

    A request that is at fault itself (4xx) is not worth repeating as it is; one that is too much (413 by its size, 408
    by its time, perhaps 5xx) is worth repeating in halves.
    """
    if answer.is_success:
        try:
            return decode(answer)
        except ValueError:
            raise Retryable(
                "igdb_unavailable", f"{answer.url.host} answers something that is not JSON. Try again later."
            ) from None
    is_passing = answer.is_server_error or answer.status_code in PASSING
    is_too_often = answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    raise Retryable(
        "igdb_unavailable",
        f"{answer.url.host} answers {answer.status_code}: {cause(answer)}. Try again later.",
        retry_after=retry_after(answer) if is_passing else inf,
        is_too_much=answer.is_server_error or answer.status_code in TOO_MUCH,
        is_too_often=is_too_often,
        status=answer.status_code,
    )
