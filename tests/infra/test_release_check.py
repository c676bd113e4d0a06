import pytest

from infra.release_check import faults

PROJECT = '[project]\nversion = "1.2.0"\n'


@pytest.mark.parametrize("newest", ["Unreleased", "1.2.0"])
def test_a_changelog_of_this_version_or_of_none_yet_is_right(newest: str) -> None:
    assert faults(PROJECT, f"# Changelog\n\n## [{newest}]\n\n### Added\n\n- A thing.\n") == []


@pytest.mark.parametrize(
    ("changelog", "says"),
    [
        ("# Changelog\n", "no heading"),
        ("# Changelog\n\n## [1.1.0]\n\n- A thing.\n", "1.1.0"),
        ("# Changelog\n\n## [1.2.0]\n\n## [1.1.0]\n\n- A thing.\n", "nothing under 1.2.0"),
    ],
    ids=["no version", "another version", "no entries"],
)
def test_what_is_wrong_with_a_changelog_is_told(changelog: str, says: str) -> None:
    assert says in faults(PROJECT, changelog)[0]
