"""The program's first line, for `steam-import` and `python -m pipeline`.

Imports nothing that takes time before Ctrl-C can be answered.
"""

import os
import signal


def start() -> None:
    """Run `steam-import` and exit; Ctrl-C while it is being imported ends it with a sentence, too."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody wants it to be ignored
        signal.signal(signal.SIGINT, _leave_at_once)
    from pipeline.cli import main

    main()


def _leave_at_once(*_: object) -> None:
    """End the process, which has done nothing yet: an exception might come up in the middle of any library's import."""
    os.write(2, b"Interrupted. Nothing was done yet.\n")
    os._exit(130)


if __name__ == "__main__":
    start()
