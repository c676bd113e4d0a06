"""The sizes that `make package` allows; the bundles themselves are tried in `test_bundles`."""

from pathlib import Path

import pytest

from infra import package
from infra.package import FUNCTIONS, PLATFORMS, Bundle, require_size

MOST_BYTES = 200 * 1024**2
"""As the deployment promises it, well below the 250 MB that Lambda allows."""


def bundle(unzipped: int) -> Bundle:
    return Bundle("backfill", "arm64", Path(f"{unzipped}.zip"), unzipped)


def test_a_bundle_above_200_mb_fails_the_packaging_by_its_name() -> None:
    require_size([bundle(1), bundle(MOST_BYTES)])
    with pytest.raises(SystemExit, match=rf"200 MB unzipped, and more have: {MOST_BYTES + 1}\.zip\."):
        require_size([bundle(MOST_BYTES), bundle(MOST_BYTES + 1)])


@pytest.mark.parametrize("large", PLATFORMS)
def test_make_package_fails_after_it_has_made_a_bundle_that_is_too_large_for_either_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    made = []

    def stand_in(function: str, architecture: str, zips: Path) -> Bundle:
        made.append((function, architecture))
        path = zips / f"{function}-{architecture}.zip"
        path.touch()
        return Bundle(function, architecture, path, MOST_BYTES + (architecture == large))

    monkeypatch.setattr(package, "package", stand_in)
    with pytest.raises(SystemExit, match=rf"more have: .*backfill-{large}\.zip\.") as failed:
        package.main(["--to", str(tmp_path)])
    assert str(failed.value.code).count(".zip") == len(FUNCTIONS)
    assert made == [(function, platform) for function in FUNCTIONS for platform in PLATFORMS]
