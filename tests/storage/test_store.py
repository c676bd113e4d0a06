"""The two stores behave alike: a directory, and a bucket of S3 with a prefix."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import Failed, Refused, Retryable
from pipeline.storage.store import DirectoryStore, Store, open_store_at_url
from tests.support.stores import BUCKET, OpenedStore, names, opened

KEY = "imports/user-1/20261123T031749Z-raw.csv"
USES: tuple[Callable[[Store], object], ...] = (
    lambda store: store.write(KEY, b"x"),
    lambda store: store.read(KEY),
    lambda store: store.delete(KEY),
)


def test_the_last_write_of_a_file_is_read_back_byte_for_byte(at: OpenedStore) -> None:
    body = bytes(range(256)) * 100
    at.store.write(KEY, body * 2)
    at.store.write(KEY, body)
    at.store.write("overrides.csv", b"")
    assert (at.store.read(KEY), at.store.read("overrides.csv")) == (body, b"")
    assert at.names() == [KEY, "overrides.csv"]


def test_deleting_removes_one_file_and_accepts_one_that_is_not_there(at: OpenedStore) -> None:
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
        "prefix": f"s3://{BUCKET}/of/ours/{KEY}",
    }
    assert location == whole[at.kind]
    assert at.store.key_of(location) == KEY


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(KEY, id="bare key"),
        pytest.param(f"/{KEY}", id="another directory"),
        pytest.param(f"s3://another-bucket/{KEY}", id="another bucket"),
        pytest.param(f"s3://{BUCKET}-2/of/ours/{KEY}", id="a bucket that begins alike"),
        pytest.param("{root}../imports/user-1/x-raw.csv", id="climbing out"),
        pytest.param("{root}imports/user-1/../user-2/x-raw.csv", id="climbing over"),
    ],
)
def test_a_location_outside_the_store_is_refused(at: OpenedStore, location: str) -> None:
    with pytest.raises(Failed) as refused:
        at.store.key_of(location.format(root=at.store.locate("x").removesuffix("x")))
    assert refused.value.code == "location_refused"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a\0b", "a\\b", "a\nb", "\ud800"])
def test_a_key_that_could_lead_out_of_the_store_is_refused(at: OpenedStore, key: str) -> None:
    for use in (at.store.read, at.store.delete, at.store.list, lambda key: at.store.write(key, b"x")):
        with pytest.raises(Failed, match="is not a key of a store"):
            use(key)


def test_a_file_larger_than_allowed_is_refused_before_it_is_read(at: OpenedStore) -> None:
    at.store.write(KEY, b"12345")
    assert at.store.read(KEY, max_bytes=5) == at.store.read(KEY) == b"12345"
    with pytest.raises(Failed) as refused:
        at.store.read(KEY, max_bytes=4)
    assert refused.value.code == "checkpoint_invalid"
    assert refused.value.message == (
        f"{KEY} has more than 4 bytes. Check that it is the right file; if it is, set FILE_MAX_BYTES higher."
    )


def test_a_file_is_replaced_only_if_its_etag_is_the_given_one(at: OpenedStore) -> None:
    assert at.store.replace("a/b", b"one", None)
    seen = at.store.list("a/")["a/b"]
    assert not at.store.replace("a/b", b"two", None)
    assert at.store.replace("a/b", b"three", seen)
    assert not at.store.replace("a/b", b"four", seen)
    assert at.store.read("a/b") == b"three"
    seen = at.store.list("a/")["a/b"]
    at.store.delete("a/b")
    assert not at.store.replace("a/b", b"five", seen)
    assert at.store.read("a/b") is None


def test_a_list_has_the_files_below_a_prefix_and_etags_that_change_with_the_bytes(at: OpenedStore) -> None:
    for key in ("a/b", "a/c/d", "a2/b", "b"):
        at.store.write(key, b"one")
    first = at.store.list("a/")
    assert list(first) == ["a/b", "a/c/d"]
    assert at.store.list("a/") == first
    at.store.write("a/b", b"two")
    second = at.store.list("a/")
    assert (second["a/b"] != first["a/b"], second["a/c/d"] == first["a/c/d"]) == (True, True)
    assert list(at.store.list("a/b")) == ["a/b"]
    assert at.store.list("never/") == {}


def test_a_folder_has_one_lock_which_is_not_listed_and_those_of_earlier_versions_are_swept(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    for key in ("a/b", "a/c"):
        store.replace(key, b"one", None)
    (tmp_path / "a" / ".b.lock").touch()
    store.delete_drafts("a/")
    assert (list(store.list("a/")), names("directory", tmp_path)) == (["a/b", "a/c"], ["a/.lock", "a/b", "a/c"])


@pytest.mark.slow
def test_a_bucket_lists_more_files_than_fit_on_a_page(tmp_path: Path) -> None:
    with opened("bucket", tmp_path) as store:
        for number in range(1_001):
            store.write(f"a/{number:04}", b"")
        assert len(store.list("a/")) == 1_001


@contextlib.contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Have each write of this process to a longer file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write(KEY, b"old")
    with pytest.raises(Retryable) as raised, no_file_over(50_000):
        store.write(KEY, b"new" * 50_000)
    assert raised.value.code == "store_unavailable"
    assert str(tmp_path / KEY) in raised.value.message
    assert store.read(KEY) == b"old"
    assert names("directory", tmp_path) == [KEY]


def leave_the_draft_of_a_killed_writer(folder: Path) -> Path:
    """Kill a process in the middle of a write, and return the draft that it leaves."""
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


def test_the_draft_of_a_killed_writer_is_not_listed_and_is_deleted_when_it_is_old(tmp_path: Path) -> None:
    draft, beside = leave_the_draft_of_a_killed_writer(tmp_path), KEY.replace("raw", "enriched")
    assert (draft.stat().st_size, DirectoryStore(tmp_path).list("")) == (10, {})
    DirectoryStore(tmp_path).write(beside, b"x")
    assert draft.exists()  # another process may be writing it
    os.utime(draft, (0, 0))
    notes = draft.with_name(".notes.draft")
    notes.write_bytes(b"not ours")
    os.utime(notes, (0, 0))
    DirectoryStore(tmp_path).write(beside, b"x")
    assert (draft.exists(), notes.exists()) == (False, True)


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        pytest.param("data", "data", id="relative"),
        pytest.param("work/../data", "data", id="climbing"),
        pytest.param("~/data", "data", id="home"),
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
    assert store.list("") == {}
    assert target.read_bytes() == b"secret"
    assert [path for path in outside.rglob("*") if path.is_file()] == [target]


@pytest.mark.parametrize("blocked", ["", "imports/user-1", KEY])
def test_a_file_or_directory_in_the_place_of_another_is_a_configuration_error(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "data" / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if blocked == KEY else path.write_bytes(b"in the way")
    store = DirectoryStore(tmp_path / "data")
    for use in USES:
        with pytest.raises(Refused, match=r"data.* cannot be used.* Check STORE_URL") as refused:
            use(store)
        assert refused.value.code == "configuration"
