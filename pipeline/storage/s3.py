"""The store in a bucket of S3, and the function that makes a client of any AWS service."""

import contextlib
import re
import ssl
from functools import cache
from http import HTTPStatus
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.logs import quiet_library_logs
from pipeline.settings import FILE_MAX_BYTES, proxy_for, require_encrypted
from pipeline.storage.keys import outside_store_error, require_key_inside
from pipeline.storage.store import AwsLimits, require_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

_RETRYABLE_STATUSES = {408, 409, 429}
"""The only statuses below 500 that can pass by themselves; for the others somebody has to change something."""

MAX_CONNECTIONS = 16
"""The most connections that a client keeps open, for as many threads that read files at a time."""

_RETRYABLE_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException"}
_PASSING = (
    EndpointConnectionError,
    ConnectTimeoutError,
    ReadTimeoutError,
    ConnectionClosedError,
    ProxyConnectionError,
    IncompleteReadError,
    ResponseStreamingError,
    MetadataRetrievalError,
    HTTPClientError,
    ConnectionError,
    TimeoutError,
)
"""The errors without an answer that may pass by themselves; SSLError and the causes of some others are excepted."""

_LASTING = (
    ssl.SSLError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    RecursionError,
)
"""The causes that do not pass by themselves, although boto wraps them into errors of _PASSING."""

UNANSWERED = (BotoCoreError, OSError, EOFError, RecursionError, JSONDecodeError)
"""Exceptions that a call to AWS raises when it gets no answer.

Not all are boto's own: a missing file or program of the credentials, a program that prints no JSON, a question for a
code of MFA without a terminal, a server that redirects in circles.
"""

_REASONS = {
    EOFError: "the profile asks for a code of MFA, and nobody can type it",
    JSONDecodeError: "the program of credential_process prints no JSON",
}
_LOG_IN = "Log in again (aws sso login), or renew AWS_SESSION_TOKEN"
_KEY_SETTINGS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_KEYS = f"Correct {_KEY_SETTINGS}"
_SETTINGS = "Correct AWS_PROFILE, AWS_REGION, the AWS_ENDPOINT_URL… settings, or the file of AWS_CONFIG_FILE."
_REGION = "Set AWS_REGION to the region of the bucket"
_CLOCK = "This machine's clock is off: synchronise it (timedatectl set-ntp true)"
_REMEDIES = {
    "ExpiredToken": _LOG_IN,
    "ExpiredTokenException": _LOG_IN,
    "TokenRefreshRequired": _LOG_IN,
    "InvalidToken": _LOG_IN,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "UnrecognizedClientException": _KEYS,
    "InvalidSignatureException": _KEYS,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "RequestInTheFuture": _CLOCK,
}
"""The advice for the user by the error code that AWS answers."""

_OF_CLOCK = re.compile(r"Signature (?:expired|not yet current)")
"""Matches what services other than S3 say of a clock that is off, under the code of a wrong key."""
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
_NEEDS = (
    "Check S3_BUCKET or STORE_URL, and that the credentials allow s3:GetObject, PutObject, DeleteObject and ListBucket."
)


class S3Store:
    """The store in a bucket, or below a prefix of one; a location is `s3://bucket/key`.

    Raises:
        Refused: `configuration`, if the bucket does not exist or may not be used.
        Retryable: `store_unavailable`, after boto's own retries.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "", file_max_bytes: int = FILE_MAX_BYTES) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.file_max_bytes = file_max_bytes

    def read(self, key: str, *, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of the object with a key, None if there is none."""
        with self._s3_errors(key):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            except self._client.exceptions.NoSuchKey:
                return None
            with contextlib.closing(found["Body"]) as body:
                require_size(key, found["ContentLength"], max_bytes)
                return body.read()

    def write(self, key: str, body: bytes) -> None:
        """Put an object under a key; S3 shows it whole or not at all."""
        with self._s3_errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=body)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        """Put an object if its ETag is still `etag` (None: if there is still none); return True if S3 took it."""
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
        """Return a mapping of key to ETag for the objects whose keys begin with the prefix."""
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
        """Delete the object with a key, if there is one."""
        with self._s3_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def delete_folder(self, prefix: str) -> None:
        """Delete the objects whose keys begin with a prefix."""
        for key in self.list(prefix):
            self.delete(key)

    def delete_drafts(self, folder: str) -> None:
        """Do nothing: S3 shows no object that is half written."""

    def locate(self, key: str) -> str:
        """Return the location of a key: `s3://bucket/key`, with the store's prefix."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def key_of(self, location: str) -> str:
        """Return the key of a location in the store's bucket and below its prefix, without asking S3."""
        root = self.locate("")
        if not location.startswith(root) or ".." in location.split("/"):
            raise outside_store_error(location, root)
        return location.removeprefix(root)

    def _key(self, key: str) -> str:
        return self._prefix + require_key_inside(key)

    @contextlib.contextmanager
    def _s3_errors(self, key: str) -> "Iterator[None]":
        try:
            yield
        except (ClientError, *UNANSWERED) as error:
            raise aws_error(error, "S3", self.locate(key), _NEEDS) from error


def aws_error(error: BaseException, service: str, where: str, needs: str) -> PipelineError:
    """Return our error for one that a call to an AWS service raised: Retryable if it may pass by itself, else Refused.

    Their codes are `store_unavailable` and `configuration`. `needs` is the sentence that says what to check where
    nothing more is known.
    """
    if isinstance(error, ClientError):
        return _answered(error, service, where, needs)
    cause = getattr(error, "kwargs", {}).get("error", error)
    refused = re.search(r"Tunnel connection failed: (4\d\d[\w ]*)", str(cause))
    if not refused and _is_passing(error, cause):
        return Retryable("store_unavailable", f"{service} cannot be reached for {where}: {error}. Try again later.")
    if refused:
        remedy = f"The proxy answers {refused[1].strip()}. Correct HTTPS_PROXY: http://user:password@host:port"
    elif isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Refused("configuration", f"There are no AWS credentials for {where}. Set {_KEY_SETTINGS}.")
    elif isinstance(error, SSOError | TokenRetrievalError):
        remedy = _LOG_IN
    elif isinstance(cause, RecursionError):
        return Refused("configuration", f"{service} redirects in circles for {where}. {_REGION}.")
    elif isinstance(error, SSLError | HTTPClientError):
        remedy = "Set AWS_CA_BUNDLE to a file with the certificate of the authority, or correct AWS_ENDPOINT_URL_S3"
    elif isinstance(error, BotoCoreError) and not isinstance(error, CredentialRetrievalError):
        remedy = needs.rstrip(".")
    else:
        remedy = "Correct what AWS_PROFILE, AWS_CONFIG_FILE or AWS_WEB_IDENTITY_TOKEN_FILE say of credentials"
    reason = _REASONS.get(type(error)) or str(error).rstrip(". ")
    return Refused("configuration", f"{service} cannot be asked for {where}: {reason}. {remedy}.")


def _is_passing(error: BaseException, cause: object) -> bool:
    """Return whether a call without an answer may succeed later; `cause` is what boto wrapped, if it did."""
    if isinstance(error, CredentialRetrievalError):
        return error.kwargs["provider"] not in ("custom-process", "sso", "login")
    if isinstance(cause, _LASTING):
        return False
    return isinstance(error, _PASSING) or (isinstance(error, SSLError) and "EOF occurred" in str(error))


def _answered(error: ClientError, service: str, where: str, needs: str) -> PipelineError:
    """Return the error for an answer of AWS that is not a success."""
    code, message = error.response["Error"].get("Code", "unknown"), error.response["Error"].get("Message", "")
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 500)
    says = f"{service} answers {code} for {where}"
    if status == HTTPStatus.NOT_IMPLEMENTED:
        checksum = " Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, if it is S3's checksums that it does not know."
        lacks = f"This server lacks what a store needs.{checksum if error.operation_name == 'PutObject' else ''}"
        return Refused("configuration", f"{says}: {message[:200].rstrip('.')}. {lacks}")
    remedy = _CLOCK if _OF_CLOCK.search(message) else _REMEDIES.get(code)
    is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if not remedy and (is_server_error or status in _RETRYABLE_STATUSES or code in _RETRYABLE_CODES):
        return Retryable("store_unavailable", f"{says}. Try again later.")
    return Refused("configuration", f"{says}. {remedy}." if remedy else f"{says}. {needs}")


def open_aws(
    service: str, purpose: str, limits: AwsLimits, *, region: str | None = None, endpoint_url: str | None = None
) -> Any:  # noqa: ANN401 - botocore generates its clients' classes at run time
    """Return a boto3 client of an AWS service; error messages name its `purpose`, such as a setting.

    Raises:
        Refused: `configuration`, if AWS's profile or environment variables are invalid, or would send keys unencrypted.
    """
    quiet_library_logs()
    config = Config(
        connect_timeout=limits.timeout_seconds,
        read_timeout=limits.timeout_seconds,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
    )

    def create(**proxies: str) -> BaseClient:
        # boto3 would create the same client, but imports its file transfers first: a sixth of a cold start.
        return session.create_client(
            service, region_name=region, endpoint_url=endpoint_url, config=config.merge(Config(proxies=proxies))
        )

    try:
        session = Session()
        session.register_component("data_loader", _service_loader(session.get_config_variable("data_path")))
        client = create()
        # The address that boto uses may also come from its own settings, such as AWS_ENDPOINT_URL.
        address = urlsplit(require_encrypted(client.meta.endpoint_url))
    except UNANSWERED as error:  # an unknown region or profile, for example
        raise aws_error(error, "AWS", purpose, _SETTINGS) from error
    except ValueError:  # without its text, which may quote an endpoint with a password in it
        raise Refused(
            "configuration",
            f"AWS cannot be set up for {purpose}: in the AWS_ENDPOINT_URL… settings, give an address that begins with "
            "https:// (http:// only leads to this machine).",
        ) from None
    proxy = proxy_for(address.scheme, str(address.hostname))
    return create(https=proxy) if proxy else client


@cache
def _service_loader(path: str | None) -> Loader:
    """Return boto's loader of service descriptions, one per process: reading them is most of the work of a client."""
    return create_loader(path)
