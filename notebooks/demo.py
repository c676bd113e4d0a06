"""The store that the notebooks show: the one that the settings name, or else the demo's data, which is beside them."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pipeline.cli.local import install_command

if missing := [name for name in ("IPython", "altair", "pyarrow", "vl_convert") if not find_spec(name)]:
    raise ImportError(
        f'The notebooks need the extra "notebooks" ({", ".join(missing)} not found). Run '
        f"{install_command('notebooks')}, and restart the kernel."
    )

from dotenv import load_dotenv
from IPython.display import Markdown

from pipeline.settings import Settings

DEMO = Path(__file__).parent / "demo_data"
ENV = Path(__file__).parents[1] / ".env"


class ChosenStore(NamedTuple):
    """The URL of a store, and a sentence about it for the reader of a notebook."""

    url: str
    says: Markdown


def choose_store() -> ChosenStore:
    """Return the store of STORE_URL or S3_BUCKET, or else the demo's data, with a sentence that says which one it is.

    The settings in `.env` hold here too, also for what a notebook asks of the store later: they are put into the
    environment, as Jupyter runs in another folder. A folder in STORE_URL is one from where `.env` is.

    Raises:
        Refused: `configuration`, naming the settings that are invalid.
    """
    load_dotenv(ENV)
    settings = Settings.read()
    if url := settings.store:
        place = url if url.startswith("s3:") else str(ENV.parent / Path(url).expanduser())
        name = "STORE_URL" if settings.store_url else "S3_BUCKET"
        return ChosenStore(place, Markdown(f"This is the store that `{name}` names."))
    says = (
        "`STORE_URL` is not set, so this is **the demo's data**. To see your own, set `STORE_URL` to your store (an "
        "absolute folder or `s3://bucket/prefix`), and run all cells again."
    )
    return ChosenStore(str(DEMO), Markdown(says))
