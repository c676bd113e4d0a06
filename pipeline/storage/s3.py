"""A bucket of S3, or a prefix of one.

Clients of AWS's services.
"""

import contextlib
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from pipeline.errors import Refused, Retryable
from pipeline.logs import quiet_library_logs
from pipeline.settings import proxy_for, require_encrypted
from pipeline.storage.keys import outside_store_error, require_key_inside
from pipeline.storage.store import DEFAULT_LIMITS, AwsLimits, ReadLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

_PASSING = {408, 409, 429}
"""Of the 4xx, those that a later try may mend; for the others somebody has to change something."""

_SLOW = {"RequestTimeout", "SlowDown", "Throttling"}
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
_NEEDS = "Check S3_BUCKET or STORE_URL, and that we may s3:GetObject, PutObject, DeleteObject and ListBucket there."


def open_bucket(
    url: str, region: str | None, endpoint_url: str | None, aws_limits: AwsLimits, limits: ReadLimits
) -> "S3Store":
    """The store of `s3://bucket[/prefix]`.

    Raises:
        Refused: `configuration`.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise Refused("configuration", f"STORE_URL is {url!r}: give a directory, or s3://bucket/prefix.")
    client = open_aws("s3", url, aws_limits, region=region, endpoint_url=endpoint_url)
    return S3Store(client, bucket, prefix.strip("/"), limits)


class S3Store:
    """A bucket, or a prefix of one; a location is `s3://bucket/key`. S3 shows an object whole or not at all.

    Raises:
        Refused: `configuration`, when the bucket is not there or not ours to use.
        Retryable: `store_unavailable`, after boto's own retries.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "", limits: ReadLimits = DEFAULT_LIMITS) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.limits = limits

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None where there is none."""
        with self._s3_errors(key):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            except self._client.exceptions.NoSuchKey:
                return None
            with contextlib.closing(found["Body"]) as body:
                self.limits.check_size(key, found.get("ContentLength", inf))
                return self.limits.checked(key, body.read())

    def write(self, key: str, body: bytes) -> None:
        """Put the object."""
        with self._s3_errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=body)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Put with If-Match, or with If-None-Match where there must be none."""
        condition: dict[str, str] = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._s3_errors(key):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=body, **condition)  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"].get("Code") in _LOST_RACE:
                    return False
                raise
        return True

    def list(self, prefix: str) -> dict[str, str]:
        """The objects whose keys begin so."""
        with self._s3_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            return {
                item["Key"].removeprefix(self._prefix): item["ETag"]
                for page in pages
                for item in page.get("Contents", [])
            }

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        with self._s3_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def locate(self, key: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def key_of(self, location: str) -> str:
        """The key of a location in this bucket and under this prefix."""
        root = self.locate("")
        if not location.startswith(root) or ".." in location.split("/"):
            raise outside_store_error(location, root)
        return location.removeprefix(root)

    def _key(self, key: str) -> str:
        return self._prefix + require_key_inside(key)

    @contextlib.contextmanager
    def _s3_errors(self, key: str) -> "Iterator[None]":
        where = self.locate(key)
        try:
            yield
        except ClientError as error:
            code = error.response["Error"].get("Code", "unknown")
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 500)
            if 400 <= status < 500 and status not in _PASSING and code not in _SLOW:  # noqa: PLR2004 - HTTP's classes
                raise Refused("configuration", f"S3 answers {code} for {where}. {_NEEDS}") from error
            raise Retryable("store_unavailable", f"S3 answers {code} for {where}. Try again later.") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise Refused("configuration", f"There are no AWS credentials for {where}. {_NEEDS}") from error
        except ParamValidationError as error:
            raise Refused("configuration", f"S3 cannot have {where}: {error}. {_NEEDS}") from error
        except BotoCoreError as error:
            raise Retryable(
                "store_unavailable", f"S3 cannot be reached for {where}: {error}. Try again later."
            ) from error


def open_aws(
    service: str, whose: str, limits: AwsLimits, *, region: str | None, endpoint_url: str | None = None
) -> Any:  # noqa: ANN401 - botocore makes its clients while it runs
    """A client of one service; `whose` is for whom, as an error names it.

    Raises:
        Refused: `configuration`, for what of AWS's own settings cannot be, or would send keys in the clear.
    """
    quiet_library_logs()
    limiting = Config(
        connect_timeout=limits.timeout_seconds,
        read_timeout=limits.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
    )

    def client(**proxies: str) -> Any:  # noqa: ANN401 - the same
        config = limiting.merge(Config(proxies=proxies))
        # boto3 would make the same one, after it has imported what transfers large files: a sixth of a cold start.
        return session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config)

    try:
        session = Session()
        session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
        made = client()
        address = urlsplit(require_encrypted(made.meta.endpoint_url))  # which boto takes from AWS_ENDPOINT_URL too
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
