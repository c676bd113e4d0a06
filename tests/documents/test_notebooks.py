"""The notebooks as they are committed, and executed anew on a library that is imported for them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebooks_run_and_show_what_was_committed(tmp_path: Path) -> None:
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "notebooks.execute", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        timeout=240,
        check=True,
    )
    assert NOTEBOOKS
    for committed in NOTEBOOKS:
        for cell, again in zip(code_cells(committed), code_cells(tmp_path / committed.name), strict=True):
            assert texts(again) == texts(cell), f"{committed.name} is stale: make notebooks\n{cell['source']}"
