"""The command that installs an extra which is missing, by what an installer wrote about where the package came from."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.local import install_command, refusing_missing_extra
from pipeline.errors import Refused

REPOSITORY = "https://example.org/steam.git"
GIT = {"vcs": "git", "requested_revision": "main", "commit_id": "0f3c5a9"}
NAME = "steam-library-import[embedded]"


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        pytest.param(None, [NAME], id="an index"),
        pytest.param(
            {"url": "file:///a%20b/steam.whl", "archive_info": {}}, [f"{NAME} @ file:///a%20b/steam.whl"], id="wheel"
        ),
        pytest.param({"url": "file:///a%20b", "dir_info": {}}, [f"{NAME} @ file:///a%20b"], id="folder"),
        pytest.param(
            {"url": "file:///a%20b", "dir_info": {"editable": True}}, ["--editable", "/a b[embedded]"], id="editable"
        ),
        pytest.param({"url": REPOSITORY, "vcs_info": GIT}, [f"{NAME} @ git+{REPOSITORY}@0f3c5a9"], id="git"),
        pytest.param(
            {"url": REPOSITORY, "vcs_info": GIT, "subdirectory": "importer"},
            [f"{NAME} @ git+{REPOSITORY}@0f3c5a9#subdirectory=importer"],
            id="a folder in git",
        ),
    ],
)
def test_a_missing_extra_is_installed_from_where_the_package_came_from(
    origin: dict[str, Any] | None, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "steam_library_import-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: steam-library-import\nVersion: 1.0\n")
    if origin:
        (installed / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    command = install_command("embedded")
    assert shlex.split(command)[-len(words) :] == words
    with pytest.raises(Refused) as refused, refusing_missing_extra():
        raise ModuleNotFoundError(name="aiohttp")
    assert f"(aiohttp is missing). Run {command}, or set DATABASE_URL" in refused.value.message
