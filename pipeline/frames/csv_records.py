"""The records of a CSV of which nothing is known: each comma becomes a field, so none may be as long as the file."""

import csv
from io import StringIO


class CsvRecords:
    """The records of a text; raises csv.Error for one that cannot be read, and goes on behind it."""

    def __init__(self, text: str, most_chars: int, delimiter: str = ",", *, strict: bool = False) -> None:
        self._most = most_chars
        self._chars = 0
        self._reader = csv.reader(map(self._counted, StringIO(text, newline="")), delimiter=delimiter, strict=strict)

    def __iter__(self) -> "CsvRecords":
        return self

    def __next__(self) -> list[str]:
        self._chars = 0
        return next(self._reader)

    @property
    def lines(self) -> int:
        """How many lines were read."""
        return self._reader.line_num

    def _counted(self, line: str) -> str:
        self._chars += len(line)
        if self._chars > self._most:
            raise csv.Error(f"a record is longer than {self._most:,} characters")
        return line
