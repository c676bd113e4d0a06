"""The README and docs/: their tables, and the commands, files and targets that they name."""

import re
from pathlib import Path

import polars as pl
import pytest
from click import UsageError

from schemas.frames import check_rows
from schemas.library import EnrichedLibrary
from tests.support.documents import (
    DOCUMENTS,
    EXAMPLES,
    MODELS,
    README,
    WITH_TABLES,
    blocks_of,
    calls_of,
    check_call,
    mentions_of,
    with_tables,
)
from tests.support.surroundings import CASES

NAMES = [path.name for path in DOCUMENTS]


@pytest.mark.parametrize("document", WITH_TABLES, ids=lambda path: path.name)
def test_the_tables_are_what_the_schemas_and_the_rules_say(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert with_tables(text) == text, "write them anew: .venv/bin/python -m tests.support.documents"


@pytest.mark.parametrize("model", MODELS)
def test_every_frame_of_the_data_dictionary_has_its_table(model: str) -> None:
    columns = README.parent / "docs" / "columns.md"
    assert re.search(rf"<!-- dictionary {model} -->\n\| column", columns.read_text(encoding="utf-8"))


def test_each_of_the_surroundings_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (README.parent / "tests").rglob("test_*.py"))
    assert [name for name in CASES if f'"{name}"' not in tests] == []


def test_the_examples_conform_to_the_schema() -> None:
    columns = EnrichedLibrary.to_schema().columns
    conforming, failures = check_rows(pl.DataFrame({name: [EXAMPLES[name]] for name in columns}), EnrichedLibrary)
    assert (conforming.height, failures.height) == (1, 0)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_that_a_document_names_could_be_typed(document: Path) -> None:
    for block in blocks_of(document):
        for call in calls_of(block):
            check_call(call)
    for mention in mentions_of(document):
        check_call(mention, is_whole=False)


def test_a_call_that_could_not_be_typed_is_found() -> None:
    for wrong in ("enrich", "run me --colour", "review", "import x", "fetch a b"):
        (call,) = calls_of(f"steam-import {wrong}  # a comment")
        with pytest.raises((UsageError, AssertionError)):
            check_call(call)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:pipeline|schemas|tests|docs)/[\w/.]+\w)`", text):
        assert (README.parent / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    makefile = README.with_name("Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?m)(?:^ *|`)make ([a-z-]+)", document.read_text(encoding="utf-8"))):
        assert f"\n{target}:" in makefile, target
