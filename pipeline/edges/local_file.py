"""A file of this machine that a person names, as a list of users or a review sheet: of any size, or no file at all."""

import errno
import os
import stat
from pathlib import Path

from pipeline.contract import ReadLimits
from pipeline.errors import Refused


def read_csv_file(path: Path, limits: ReadLimits) -> bytes:
    """The bytes of a CSV.

    Raises:
        Refused: `bad_event`, for what cannot be read, or is no regular file.
        Failed: `checkpoint_invalid`, beyond CSV_MAX_BYTES, before it is read, or CSV_MAX_LINES.
    """
    try:
        # Without waiting: nobody may ever write into a pipe.
        with os.fdopen(os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileExistsError(errno.EEXIST, "it is no regular file")
            limits.check_csv(path.name, status.st_size)
            body = file.read(status.st_size)
    except OSError as error:
        raise Refused("bad_event", f"{path} cannot be read: {error.strerror}.") from error
    limits.check_lines(path.name, body)
    return body
