"""Clients of AWS's services."""

from functools import cache
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from pipeline.addresses import private
from pipeline.edges.network import hush, proxy_for
from pipeline.edges.patience import Patience
from pipeline.errors import Refused


def open_aws(
    service: str, whose: str, patience: Patience, *, region: str | None, endpoint_url: str | None = None
) -> Any:  # noqa: ANN401 - botocore makes its clients while it runs
    """A client of one service; `whose` is for whom, as an error names it.

    Raises:
        Refused: `configuration`, for what of AWS's own settings cannot be, or would send keys in the clear.
    """
    hush()
    limits = Config(
        connect_timeout=patience.timeout_seconds,
        read_timeout=patience.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
    )

    def client(**proxies: str) -> Any:  # noqa: ANN401 - the same
        config = limits.merge(Config(proxies=proxies))
        # boto3 would make the same one, after it has imported what transfers large files: a sixth of a cold start.
        return session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config)

    try:
        session = Session()
        session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
        made = client()
        address = urlsplit(private(made.meta.endpoint_url))  # which boto takes from AWS_ENDPOINT_URL too
    except BotoCoreError as error:  # a region or a profile that cannot be
        raise Refused(
            "configuration", f"AWS cannot be set up for {whose}: {error}. Check the AWS_… settings."
        ) from error
    except ValueError:  # which may quote an endpoint, and a password in it
        raise Refused(
            "configuration",
            f"AWS cannot be set up for {whose}: in the AWS_ENDPOINT_URL… settings, give an address that begins with "
            "https:// (http:// only leads to this machine).",
        ) from None
    proxy = proxy_for(address.scheme, str(address.hostname))
    return client(https=proxy) if proxy else made


@cache
def _descriptions(path: str | None) -> Loader:
    """Those that AWS's clients are made of: reading them takes most of the time that one takes to be made."""
    return create_loader(path)
