"""The store that the notebooks show: the one that STORE_URL names, or else the demo's data, which is beside them."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pipeline.cli.local import install_command

if missing := [name for name in ("IPython", "altair", "pyarrow", "vl_convert") if not find_spec(name)]:
    raise ImportError(
        f'The notebooks need the extra "notebooks" ({", ".join(missing)} not found). Run '
        f"{install_command('notebooks')}, and restart the kernel."
    )

from IPython.display import Markdown

DEMO = Path(__file__).parent / "demo_data"


class ChosenStore(NamedTuple):
    """The URL of a store, and a sentence about it for the reader of a notebook."""

    url: str
    says: Markdown


def choose_store() -> ChosenStore:
    """Return the store that STORE_URL names, or else the demo's data, with a sentence that says which one it is."""
    if url := os.environ.get("STORE_URL"):
        return ChosenStore(url, Markdown("This is the store that `STORE_URL` names."))
    says = (
        "`STORE_URL` is not set, so this is **the demo's data**. To see your own, set `STORE_URL` to your store (an "
        "absolute folder or `s3://bucket/prefix`), and run all cells again."
    )
    return ChosenStore(str(DEMO), Markdown(says))
