"""The notebooks executed, on a library that is imported for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import Settings
from tests.notebooks import FOLDER, NOTEBOOKS, code_cells, texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_notebooks_run_and_show_what_was_committed(tmp_path: Path) -> None:
    own = {name.upper() for name in Settings.model_fields}
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "notebooks.execute", str(tmp_path)],
        cwd=FOLDER.parent,
        env={name: value for name, value in os.environ.items() if name not in own},
        timeout=240,
        check=True,
    )
    assert NOTEBOOKS
    for committed in NOTEBOOKS:
        for cell, again in zip(code_cells(committed), code_cells(tmp_path / committed.name), strict=True):
            assert texts(again) == texts(cell), f"{committed.name} is stale: make notebooks\n{cell['source']}"
