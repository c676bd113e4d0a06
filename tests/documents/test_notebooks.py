"""The notebooks as they are committed, and executed anew on the demo's data, which is committed beside them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks.demo import DEMO, choose_store
from pipeline import list_runs, read_backfill, read_history
from pipeline.cli.local import install_command
from pipeline.settings import Settings
from tests.support.documents import NOTEBOOKS, ROOT, code_cells, texts
from tests.support.programs import environment

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:home|root|work|tmp|usr|Users|opt|var|mnt|private)/|[A-Z]:\\\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_cell_was_executed_once_from_the_top(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_every_cell_shows_something_and_none_an_error_or_a_warning(notebook: Path) -> None:
    for cell in code_cells(notebook):
        assert [output["output_type"] for output in cell["outputs"]] == ["execute_result"], cell["source"]


def test_no_output_tells_of_the_machine_it_was_made_on(notebook: Path) -> None:
    shown = [text for cell in code_cells(notebook) for text in texts(cell)]
    assert shown
    assert [text for text in shown if ABSOLUTE_PATH.search(text)] == []
    assert "execution" not in {name for cell in code_cells(notebook) for name in cell["metadata"]}


def test_every_chart_has_a_title_and_names_its_axes(notebook: Path) -> None:
    charts = ["".join(cell["source"]) for cell in code_cells(notebook) if "image/png" in cell["outputs"][0]["data"]]
    assert len(charts) >= 3
    for source in charts:
        assert re.search(r'title=alt\.Title\(\s*f"', source), source
        assert re.search(r'title="[A-Z][a-z ]+ \((hours|seconds|count)\)"', source), source


def test_a_notebook_says_how_to_open_it_and_whose_data_it_shows(notebook: Path) -> None:
    command = ".venv/bin/uv run --all-extras --with jupyterlab jupyter lab notebooks"
    assert f"To open it: `make setup`, then `{command}`" in notebook.read_text(encoding="utf-8")
    first, *_ = code_cells(notebook)
    assert "the demo's data" in texts(first)[0]
    assert (ROOT / shlex.split(command)[0]).exists()


def test_without_a_store_of_ones_own_the_notebooks_show_the_demo_s_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", "")
    url, says = choose_store()
    assert (url, "**the demo's data**" in says.data) == (str(DEMO), True)
    runs = list_runs(url)
    assert runs["kind"].value_counts().sort("kind")["count"].to_list() == [13, 1]
    user = runs["user_id"].drop_nulls()[0]
    assert read_history(user, url)["fetched_at"].n_unique() == 13
    assert read_backfill("sample", url).outcomes.height == 60
    monkeypatch.setenv("STORE_URL", "s3://ours/library")
    assert choose_store().url == "s3://ours/library"


def test_notebooks_show_the_store_that_env_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("notebooks.demo.ENV", tmp_path / ".env")
    for written, url in {
        "data": str(tmp_path / "data"),
        "'/a folder'": "/a folder",
        "s3://ours/library": "s3://ours/library",
    }.items():
        for name in ("STORE_URL", "AWS_REGION"):  # set before, so that they are unset again in the end
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        (tmp_path / ".env").write_text(f"STORE_URL={written}\nAWS_REGION=eu-north-1\n", encoding="utf-8")
        store = choose_store()
        assert (store.url, store.says.data) == (url, "This is the store that `STORE_URL` names.")
        assert Settings.read().aws_region == "eu-north-1", "what opens the store reads it too"


def test_without_the_extra_the_first_line_of_a_notebook_says_how_to_install_it(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = code_cells(notebook)
    line = first["source"][0]
    assert line.startswith("from demo import choose_store")
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    monkeypatch.delitem(sys.modules, "demo", raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ImportError) as missing:
        exec(line, {})  # noqa: S102 - our own notebook
    says = f'The notebooks need the extra "notebooks" (altair not found). Run {install_command("notebooks")}, and '
    assert missing.value.msg.startswith(says)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebooks_show_what_was_committed_and_the_same_when_executed_again(tmp_path: Path) -> None:
    folders = [tmp_path / "once", tmp_path / "again"]
    for folder in folders:
        folder.mkdir()
        subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "notebooks.execute", str(folder)],
            cwd=ROOT,
            env=environment(),
            timeout=140,
            check=True,
        )
    assert len(NOTEBOOKS) == 4
    once, again = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert once == again
    for committed in NOTEBOOKS:
        for cell, executed in zip(code_cells(committed), code_cells(folders[0] / committed.name), strict=True):
            assert texts(executed) == texts(cell), f"{committed.name} is stale: make notebooks\n{cell['source']}"
