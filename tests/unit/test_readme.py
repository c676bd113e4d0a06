import re

from click.testing import CliRunner

from pipeline.cli import cli
from tests.readme import README, with_columns


def test_the_column_table_is_what_the_schemas_say() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_columns(text) == text, "write it anew: .venv/bin/python -m tests.readme"


def test_every_command_the_readme_names_exists() -> None:
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"steam-import ([a-z]+)", text))
    assert named
    for command in named:
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0, command


def test_every_make_target_the_readme_names_exists() -> None:
    makefile = README.with_name("Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", README.read_text(encoding="utf-8"))):
        assert f"\n{target}:" in makefile, target
