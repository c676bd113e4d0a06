"""The column table of the README, made from the schemas: `python -m tests.readme` writes it."""

import re
from pathlib import Path

from schemas.frames import EnrichedLibrary, RawLibrary

README = Path(__file__).parent.parent / "README.md"


def column_table() -> str:
    raw = RawLibrary.to_schema().columns
    rows = [
        f"| `{name}` | {'raw' if name in raw else 'enriched'} | {_type(str(column.dtype))} | {column.description} |"
        for name, column in EnrichedLibrary.to_schema().columns.items()
    ]
    return "\n".join(["| column | since | type | what it is |", "|---|---|---|---|", *rows])


def with_columns(readme: str) -> str:
    table = column_table().replace("\\", "\\\\")
    return re.sub(r"(?s)(<!-- columns -->\n).*(<!-- /columns -->)", rf"\g<1>{table}\n\g<2>", readme)


def _type(dtype: str) -> str:
    return {"String": "text", "Int32": "integer"}.get(dtype, "time" if dtype.startswith("Datetime") else "one of a set")


if __name__ == "__main__":
    README.write_text(with_columns(README.read_text(encoding="utf-8")), encoding="utf-8")
