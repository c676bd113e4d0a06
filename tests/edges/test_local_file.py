"""What a person names is read if it is a file within the limits, and nothing else is."""

import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.storage.csv import read_local_file
from pipeline.storage.store import ReadLimits

LIMITS = ReadLimits(csv_max_bytes=10, csv_max_lines=3)


@pytest.mark.parametrize("name", ["users.csv", "users", "users.json", "users.parquet"])
def test_a_file_is_read_up_to_its_limits_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for body, setting in ((b"x" * 11, "CSV_MAX_BYTES"), (b"\n" * 4, "CSV_MAX_LINES")):
        path.write_bytes(body)
        with pytest.raises(PipelineError, match=f"set {setting} higher") as refused:
            read_local_file(path, LIMITS)
        assert refused.value.code == "checkpoint_invalid"
    path.write_bytes(b"a\nb\nc\n")
    assert read_local_file(path, LIMITS) == b"a\nb\nc\n"


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "gone"):
        with pytest.raises(PipelineError, match="cannot be read") as refused:
            read_local_file(path, LIMITS)
        assert refused.value.code == "bad_event"
