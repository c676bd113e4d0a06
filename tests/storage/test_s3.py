"""What a store of S3 raises when its settings are wrong, or S3 does not answer as it should."""

from collections.abc import Callable

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count

from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.store import AwsLimits, Store, open_store_at_url
from tests.support.stores import BUCKET, local_s3

KEY = "imports/user-1/20261123T031749Z-raw.csv"
USES: tuple[Callable[[Store], object], ...] = (
    lambda store: store.write(KEY, b"x"),
    lambda store: store.read(KEY),
    lambda store: store.delete(KEY),
)


def s3_error(url: str, *, endpoint_url: str | None = None, region: str = "eu-central-1") -> PipelineError:
    """Return what writing, reading and deleting raise in a store of S3: the same, and naming the address."""
    raised = []
    for use in USES:
        with pytest.raises(PipelineError) as error:
            use(open_store_at_url(url, region=region, endpoint_url=endpoint_url, aws_limits=AwsLimits(0.4, 1)))
        raised.append(error.value)
    assert {(type(error), str(error)) for error in raised} == {(type(raised[0]), str(raised[0]))}
    return raised[0]


def assert_configuration(error: PipelineError, says: str) -> None:
    assert (type(error), error.code) == (Refused, "configuration")
    assert says in error.message


def assert_unavailable(error: PipelineError, url: str) -> None:
    assert (type(error), error.code) == (Retryable, "store_unavailable")
    assert f"{url}/{KEY}" in error.message


@pytest.fixture
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def _credentials(_no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_a_bucket_that_does_not_exist_is_named() -> None:
    with local_s3():
        error = s3_error("s3://no-such-bucket")
    assert_configuration(error, f"NoSuchBucket for s3://no-such-bucket/{KEY}. Check S3_BUCKET")


def test_a_bucket_that_may_not_be_used_is_named_with_the_permissions_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_s3():
        iam = boto3.client("iam", region_name="eu-central-1")
        iam.create_user(UserName="nobody")
        key = iam.create_access_key(UserName="nobody")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        error = set_initial_no_auth_action_count(0)(lambda: s3_error(f"s3://{BUCKET}"))()
    assert_configuration(error, "AccessDenied")
    assert "s3:GetObject, PutObject, DeleteObject and ListBucket" in error.message


@pytest.mark.usefixtures("_no_aws")
def test_missing_credentials_are_a_configuration_error() -> None:
    assert_configuration(s3_error(f"s3://{BUCKET}", endpoint_url="http://127.0.0.1:1"), "no AWS credentials")


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        pytest.param("s3://", {}, id="no bucket"),
        pytest.param("s3://two words", {}, id="no name of a bucket"),
        pytest.param(f"s3://{BUCKET}", {"endpoint_url": "nonsense"}, id="no endpoint"),
        pytest.param(f"s3://{BUCKET}", {"region": "no region"}, id="no region"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_invalid_settings_of_aws_are_a_configuration_error(url: str, aws: dict[str, str]) -> None:
    assert_configuration(s3_error(url, **aws), url)


@pytest.mark.usefixtures("_credentials")
def test_an_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert_configuration(s3_error(f"s3://{BUCKET}"), "nobody")


@pytest.mark.usefixtures("_credentials")
def test_an_s3_that_cannot_be_reached_can_be_retried() -> None:
    assert_unavailable(s3_error(f"s3://{BUCKET}", endpoint_url="http://127.0.0.1:1"), f"s3://{BUCKET}")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503, body="<Error><Code>SlowDown</Code></Error>"), id="slow down"),
        pytest.param(Fault(kind="reset"), id="reset"),
        pytest.param(Fault(kind="stall", seconds=9), id="stall"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_an_s3_that_fails_can_be_retried(fault: Fault) -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(fault)
        assert_unavailable(s3_error("s3://steam", endpoint_url=sandbox.url), "s3://steam")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_without_encryption_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://s3.example")
    with pytest.raises(Refused, match="give an address that begins with https://"):
        open_store_at_url(f"s3://{BUCKET}", region="eu-central-1")
