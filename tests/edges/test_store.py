import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count

from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.store import AwsLimits, DirectoryStore, Store, open_store_at_url
from tests.support.stores import BUCKET, KINDS, OpenedStore, local_s3, names, opened

KEY = "imports/user-1/20261123T031749Z-raw.csv"
USES: tuple[Callable[[Store], object], ...] = (
    lambda store: store.write(KEY, b"x"),
    lambda store: store.read(KEY),
    lambda store: store.delete(KEY),
)
ONCE = AwsLimits(timeout_seconds=0.4, attempts=1)


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenedStore]:
    with opened(request.param, tmp_path / "data") as store:
        yield OpenedStore(request.param, tmp_path / "data", store)


def test_what_was_written_is_read_back_byte_for_byte(at: OpenedStore) -> None:
    body = bytes(range(256)) * 100
    at.store.write(KEY, body)
    at.store.write("overrides.csv", b"")
    assert (at.store.read(KEY), at.store.read("overrides.csv")) == (body, b"")
    assert at.names() == [KEY, "overrides.csv"]


def test_what_was_never_written_is_none(at: OpenedStore) -> None:
    assert at.store.read(KEY) is None


def test_the_last_word_stays(at: OpenedStore) -> None:
    at.store.write(KEY, b"a longer first version")
    at.store.write(KEY, b"second")
    assert at.store.read(KEY) == b"second"
    assert at.names() == [KEY]


def test_deleting_takes_one_object_and_minds_no_absence(at: OpenedStore) -> None:
    at.store.write(KEY, b"x")
    at.store.write("overrides.csv", b"y")
    at.store.delete(KEY)
    at.store.delete(KEY)
    at.store.delete("never/there.csv")
    assert at.names() == ["overrides.csv"]


def test_a_location_leads_back_to_its_key(at: OpenedStore) -> None:
    location = at.store.locate(KEY)
    whole = {
        "directory": str(at.folder / KEY),
        "bucket": f"s3://{BUCKET}/{KEY}",
        "prefix": f"s3://{BUCKET}/of/ours/{KEY}",
    }
    assert location == whole[at.kind]
    assert at.store.key_of(location) == KEY


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("", id="empty"),
        pytest.param(KEY, id="bare key"),
        pytest.param(f"/{KEY}", id="another directory"),
        pytest.param("/etc/passwd", id="a file of the machine"),
        pytest.param(f"file://{{root}}{KEY}", id="file URL"),
        pytest.param(f"s3://another-bucket/{KEY}", id="another bucket"),
        pytest.param(f"s3://{BUCKET}-2/of/ours/{KEY}", id="a bucket that begins alike"),
        pytest.param(f"S3://{BUCKET}/of/ours/{KEY}", id="capital scheme"),
        pytest.param(f"https://{BUCKET}.s3.amazonaws.com/{KEY}", id="web address"),
        pytest.param("{root}../imports/user-1/x-raw.csv", id="climbing out"),
        pytest.param("{root}imports/user-1/../user-2/x-raw.csv", id="climbing over"),
        pytest.param("{root}imports/user-1/..", id="climbing at the end"),
        pytest.param(f" {{root}}{KEY}", id="blank before"),
    ],
)
def test_a_location_outside_the_store_is_refused(at: OpenedStore, location: str) -> None:
    with pytest.raises(Failed) as refused:
        at.store.key_of(location.format(root=at.store.locate("x").removesuffix("x")))
    assert refused.value.code == "location_refused"


def test_a_prefix_that_begins_alike_is_another_one(tmp_path: Path) -> None:
    with opened("prefix", tmp_path) as store, pytest.raises(Failed) as refused:
        store.key_of(f"s3://{BUCKET}/of/ours-2/{KEY}")
    assert refused.value.code == "location_refused"


def test_a_location_is_judged_by_its_spelling_alone(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _no_credentials(patch)
        unreachable = open_store_at_url("s3://nowhere", endpoint_url="http://127.0.0.1:1", aws_limits=ONCE)
        assert unreachable.key_of(f"s3://nowhere/{KEY}") == KEY
        with pytest.raises(Failed):
            unreachable.key_of(f"s3://elsewhere/{KEY}")
    missing = DirectoryStore(tmp_path / "missing")
    assert missing.key_of(str(tmp_path / "missing" / KEY)) == KEY
    with pytest.raises(Failed):
        missing.key_of(str(tmp_path / KEY))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_half_of_a_write(tmp_path: Path) -> None:
    store, versions = DirectoryStore(tmp_path), [bytes([letter]) * 500_000 for letter in b"ab"]
    store.write(KEY, versions[0])
    stop, faults = threading.Event(), []

    def overwrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            store.write(KEY, versions[turn % 2])

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        for _ in range(300):
            body = store.read(KEY)
            if body not in versions:
                faults.append(None if body is None else len(body))
    finally:
        stop.set()
        writer.join()
    assert faults == []


@contextlib.contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Nothing this process writes may be longer: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_old_file_and_no_droppings(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write(KEY, b"old")
    with pytest.raises(Retryable) as raised, no_file_over(50_000):
        store.write(KEY, b"new" * 50_000)
    assert raised.value.code == "store_unavailable"
    assert str(tmp_path / KEY) in raised.value.message
    assert store.read(KEY) == b"old"
    assert names("directory", tmp_path) == [KEY]


def left_by_a_killed_writer(folder: Path) -> Path:
    """The draft of a process that was killed in the middle of a write."""
    program = f"""
import resource, signal
from pathlib import Path
from pipeline.storage.store import DirectoryStore
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
DirectoryStore(Path({str(folder)!r})).write({KEY!r}, bytes(100))
"""
    assert subprocess.call([sys.executable, "-c", program]) == -signal.SIGXFSZ  # noqa: S603 - our own interpreter
    (draft,) = (folder / KEY).parent.iterdir()
    return draft


def test_the_draft_of_a_killed_writer_is_never_listed_and_goes_when_it_is_old(tmp_path: Path) -> None:
    draft, beside = left_by_a_killed_writer(tmp_path), KEY.replace("raw", "enriched")
    assert (draft.stat().st_size, DirectoryStore(tmp_path).list("")) == (10, {})
    DirectoryStore(tmp_path).write(beside, b"x")
    assert draft.exists()  # another process may be writing it
    os.utime(draft, (0, 0))
    kept = [draft.with_name(".notes.draft"), draft.with_name(draft.name.replace("raw", "link"))]
    kept[0].write_bytes(b"not ours")
    kept[1].symlink_to(kept[0])
    for path in kept:
        os.utime(path, (0, 0), follow_symlinks=False)
    DirectoryStore(tmp_path).write(beside, b"x")
    assert not draft.exists()
    assert kept[1].is_symlink()
    assert kept[0].read_bytes() == b"not ours"


def test_a_folder_is_looked_through_for_drafts_once(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write(KEY, b"x")
    draft = (tmp_path / KEY).with_name(f".a.csv.{'0' * 16}.draft")
    draft.write_bytes(b"half")
    os.utime(draft, (0, 0))
    store.write(KEY, b"y")
    assert draft.exists()


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    DirectoryStore(tmp_path).write(KEY, b"x")
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        pytest.param("data", "data", id="relative"),
        pytest.param("./data/", "data", id="dot and slash"),
        pytest.param("work/../data", "data", id="climbing"),
        pytest.param("~/data", "data", id="home"),
        pytest.param("{tmp_path}/work/../data", "data", id="absolute and climbing"),
    ],
)
def test_a_directory_may_be_spelled_in_many_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store_at_url(root.format(tmp_path=tmp_path))
    store.write(KEY, b"x")
    assert store.locate(KEY) == str(tmp_path / folder / KEY)
    assert store.key_of(store.locate(KEY)) == KEY
    assert (tmp_path / folder / KEY).read_bytes() == b"x"


def test_a_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "real")
    store = DirectoryStore(tmp_path / "data")
    store.write(KEY, b"x")
    assert store.read(store.key_of(str(tmp_path / "data" / KEY))) == b"x"


@pytest.mark.parametrize("link", ["imports", "imports/user-1", KEY])
def test_a_link_that_leads_out_of_the_directory_is_refused(tmp_path: Path, link: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "data"
    target = outside / Path(KEY).relative_to(link) if link != KEY else outside / "secret.csv"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"secret")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(outside if link != KEY else target)
    store = DirectoryStore(root)
    for use in USES:
        with pytest.raises(Failed) as refused:
            use(store)
        assert refused.value.code == "location_refused"
    assert target.read_bytes() == b"secret"
    assert [path for path in outside.rglob("*") if path.is_file()] == [target]


@pytest.mark.parametrize("link", ["imports/user-1", KEY])
def test_a_link_to_another_users_files_is_refused(tmp_path: Path, link: str) -> None:
    store, others = DirectoryStore(tmp_path), KEY.replace("user-1", "user-2")
    store.write(others, b"another's")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / link.replace("user-1", "user-2"))
    for use in USES:
        with pytest.raises(Failed, match="links in a store are not followed") as refused:
            use(store)
        assert refused.value.code == "location_refused"
    assert store.read(others) == b"another's"


def test_a_list_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_bytes(b"secret")
    store = DirectoryStore(tmp_path / "data")
    store.write(KEY, b"x")
    (tmp_path / "data/imports/user-2").symlink_to("../../outside")
    (tmp_path / "data/imports/user-1/linked.csv").symlink_to("../../../outside/secret.csv")
    assert [list(store.list(prefix)) for prefix in ("", "imports/", "imports/user-1/")] == [[KEY]] * 3
    with pytest.raises(Failed) as refused:
        store.list("imports/user-2/")
    assert refused.value.code == "location_refused"


def test_a_lock_that_is_a_link_is_refused_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    store = DirectoryStore(tmp_path / "data")
    store.write(KEY, b"x")
    for name, target in (("a", "secret.txt"), ("b", "new.txt")):
        (tmp_path / f"data/.{name}.lock").symlink_to(tmp_path / target)
        with pytest.raises(Failed) as refused:
            store.replace(name, b"x", None)
        assert refused.value.code == "location_refused"
    assert names("directory", tmp_path) == ["data/.a.lock", f"data/{KEY}", "secret.txt"]
    assert (tmp_path / "secret.txt").read_bytes() == b"secret"


def test_a_link_that_takes_a_folders_place_meanwhile_is_not_followed(tmp_path: Path) -> None:
    store, folder = DirectoryStore(tmp_path / "data"), tmp_path / "data/imports/user-1"
    store.write(KEY, b"own")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / Path(KEY).name).write_bytes(b"secret")
    kept, link = folder.with_name("kept"), folder.with_name("link")
    link.symlink_to(tmp_path / "outside")
    stop, read = threading.Event(), set[bytes | None]()

    def swap() -> None:
        while not stop.is_set():
            for old, new in ((folder, kept), (link, folder), (folder, link), (kept, folder)):
                old.rename(new)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(4_000):
            with contextlib.suppress(Failed):
                read.add(store.read(KEY))
    finally:
        stop.set()
        swapper.join()
    assert b"secret" not in read


@pytest.mark.parametrize("blocked", ["", "imports", "imports/user-1"])
def test_a_file_where_a_directory_should_be_is_a_matter_of_settings(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "data" / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"in the way")
    store = DirectoryStore(tmp_path / "data")
    for use in USES:
        with pytest.raises(Refused, match=r"data.* cannot be used.* Check STORE_URL") as refused:
            use(store)
        assert refused.value.code == "configuration"


def test_a_directory_where_a_file_should_be_is_a_matter_of_settings(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir(parents=True)
    store = DirectoryStore(tmp_path)
    for use in USES:
        with pytest.raises(Refused) as refused:
            use(store)
        assert refused.value.code == "configuration"
    assert names("directory", tmp_path) == []


def s3_error(url: str, *, endpoint_url: str | None = None, region: str = "eu-central-1") -> list[PipelineError]:
    """What each way to use the bucket raises."""
    boto3.DEFAULT_SESSION = None  # it remembers credentials
    raised = []
    for use in USES:
        with pytest.raises(PipelineError) as error:
            use(open_store_at_url(url, region=region, endpoint_url=endpoint_url, aws_limits=ONCE))
        raised.append(error.value)
    return raised


def _no_credentials(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        patch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.setenv(name, "/nonexistent")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_credentials(monkeypatch)


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_a_bucket_that_is_not_there_is_named() -> None:
    with local_s3():
        for error in s3_error("s3://no-such-bucket"):
            assert (type(error), error.code) == (Refused, "configuration")
            assert f"NoSuchBucket for s3://no-such-bucket/{KEY}. Check S3_BUCKET" in error.message


def test_a_bucket_we_may_not_use_is_named_with_the_rights_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_s3():
        iam = boto3.client("iam", region_name="eu-central-1")
        iam.create_user(UserName="nobody")
        key = iam.create_access_key(UserName="nobody")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        errors = set_initial_no_auth_action_count(0)(lambda: s3_error(f"s3://{BUCKET}"))()
    for error in errors:
        assert (type(error), error.code) == (Refused, "configuration")
        assert "AccessDenied" in error.message
        assert "s3:GetObject, PutObject, DeleteObject and ListBucket" in error.message


@pytest.mark.usefixtures("_no_aws")
def test_missing_credentials_are_a_matter_of_settings() -> None:
    for error in s3_error(f"s3://{BUCKET}", endpoint_url="http://127.0.0.1:1"):
        assert (type(error), error.code) == (Refused, "configuration")
        assert "no AWS credentials" in error.message


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        pytest.param("s3://", {}, id="no bucket"),
        pytest.param("s3:///prefix", {}, id="a prefix of no bucket"),
        pytest.param("s3://two words", {}, id="no name of a bucket"),
        pytest.param(f"s3://{BUCKET}", {"endpoint_url": "nonsense"}, id="no endpoint"),
        pytest.param(f"s3://{BUCKET}", {"region": "no region"}, id="no region"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_settings_that_no_s3_can_have_are_refused(url: str, aws: dict[str, str]) -> None:
    for error in s3_error(url, **aws):
        assert (type(error), error.code) == (Refused, "configuration")
        assert url in error.message


@pytest.mark.usefixtures("_credentials")
def test_an_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert {error.code for error in s3_error(f"s3://{BUCKET}")} == {"configuration"}


@pytest.mark.usefixtures("_credentials")
def test_an_s3_where_nobody_listens_may_be_back_later() -> None:
    for error in s3_error(f"s3://{BUCKET}", endpoint_url="http://127.0.0.1:1"):
        assert (type(error), error.code) == (Retryable, "store_unavailable")
        assert f"s3://{BUCKET}/{KEY}" in error.message


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=500, body=""), id="500"),
        pytest.param(Fault(status=503, body="<Error><Code>SlowDown</Code></Error>"), id="slow down"),
        pytest.param(Fault(kind="reset"), id="reset"),
        pytest.param(Fault(kind="stall", seconds=9), id="stall"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_an_s3_that_fails_may_be_back_later(fault: Fault) -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(fault)
        for error in s3_error("s3://steam", endpoint_url=sandbox.url):
            assert (type(error), error.code) == (Retryable, "store_unavailable")
            assert f"s3://steam/{KEY}" in error.message
