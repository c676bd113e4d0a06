"""The notebooks as files, and what of their outputs is text."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def texts(cell: dict[str, Any]) -> list[str]:
    """All that a cell shows but its pictures."""
    shown = [text for output in cell["outputs"] for kind, text in output.get("data", {}).items() if kind != "image/png"]
    return ["".join(text) for text in (*shown, *(output.get("text", "") for output in cell["outputs"]))]
