from collections.abc import Callable, Iterator

import httpx
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World


@pytest.fixture
def world() -> World:
    return World.recorded()


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    """A client for all tests: making one, which reads the certificate authorities, takes longer than most of them."""
    with httpx.Client(timeout=5) as made:
        yield made


@pytest.fixture
def steam(sandbox: Sandbox, client: httpx.Client) -> Callable[..., httpx.Response]:
    def get(method: str, **params: object) -> httpx.Response:
        settings = sandbox.environment
        given = {"key": settings["STEAM_API_KEY"]} | {name: str(value) for name, value in params.items()}
        return client.get(f"{settings['STEAM_API_URL']}/{method}/", params=given)

    return get


@pytest.fixture
def token(sandbox: Sandbox, client: httpx.Client) -> Callable[..., httpx.Response]:
    def post(**changed: str) -> httpx.Response:
        settings = sandbox.environment
        form = {
            "client_id": settings["IGDB_CLIENT_ID"],
            "client_secret": settings["IGDB_CLIENT_SECRET"],
            "grant_type": "client_credentials",
        }
        return client.post(settings["TWITCH_TOKEN_URL"], data=form | changed)

    return post


@pytest.fixture
def igdb(sandbox: Sandbox, client: httpx.Client, token: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    bearer = {"Authorization": f"Bearer {token().json()['access_token']}"}
    headers = bearer | {"Client-ID": sandbox.environment["IGDB_CLIENT_ID"]}

    def post(endpoint: str, query: str, **changed: str) -> httpx.Response:
        url = f"{sandbox.environment['IGDB_API_URL']}/{endpoint}"
        return client.post(url, content=query.encode(), headers=headers | changed)

    return post
