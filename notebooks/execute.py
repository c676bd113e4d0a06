"""Execute the notebooks on the demo's data: `python -m notebooks.execute [FOLDER]`.

Each notebook is written with its outputs where it is, or into FOLDER. The outputs depend on the notebooks and the data
alone: they hold no time of execution, and no version of Python.
"""

import os
import struct
import sys
import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent
TIMEOUT_SECONDS = 120
PNG_HEAD = 8


def execute_all(folder: Path = NOTEBOOKS) -> None:
    """Execute each notebook of this folder, and write it into a folder; raises CellExecutionError."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(_executed(path), folder / path.name)


def _executed(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute(env=os.environ | {"STORE_URL": "", "S3_BUCKET": ""})  # empty ones also keep out those of .env
    notebook.metadata["language_info"] = {"name": "python"}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if picture := output.get("data", {}).get("image/png"):
            output["data"]["image/png"] = b64encode(_compress(b64decode(picture))).decode()
    return notebook


def _compress(png: bytes) -> bytes:
    """Return the picture compressed as well as zlib can: vl-convert compresses for speed, to four times the size."""
    chunks, rest = [], png[PNG_HEAD:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        chunks.append((rest[4:8], rest[8 : 8 + length]))
        rest = rest[12 + length :]
    pixels = zlib.compress(zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT")), level=9)
    kept = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    return png[:PNG_HEAD] + b"".join(_chunk(*chunk) for chunk in [*kept[:-1], (b"IDAT", pixels), kept[-1]])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


if __name__ == "__main__":
    execute_all(*(Path(name).resolve() for name in sys.argv[1:]))
