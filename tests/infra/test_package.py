"""The sizes that `make package` allows; the bundles themselves are tried in `test_bundles`."""

from pathlib import Path

import pytest

from infra.package import Bundle, require_size

MOST_BYTES = 200 * 1024**2
"""As the deployment promises it, well below the 250 MB that Lambda allows."""


def bundle(unzipped: int) -> Bundle:
    return Bundle("backfill", "arm64", Path(f"{unzipped}.zip"), unzipped)


def test_a_bundle_above_200_mb_fails_the_packaging_by_its_name() -> None:
    require_size([bundle(1), bundle(MOST_BYTES)])
    with pytest.raises(SystemExit, match=rf"200 MB unzipped, and more have: {MOST_BYTES + 1}\.zip\."):
        require_size([bundle(MOST_BYTES), bundle(MOST_BYTES + 1)])
