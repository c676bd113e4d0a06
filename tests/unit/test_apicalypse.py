from typing import Any

import pytest

from pipeline.sandbox.apicalypse import NamedQuery, Query, QuerySyntaxError, parse, parse_multiquery

ROW: dict[str, Any] = {"uid": "10", "game": 72, "genres": [5, 8], "name": 'The "Best" \\ Game', "rating": 7.5}


def holds(condition: str) -> bool:
    where = parse(f"where {condition};").where
    assert where is not None

    def look(path: tuple[str, ...]) -> list[Any]:
        value = ROW.get(path[0], [])
        return value if isinstance(value, list) else [value]

    return where.holds(look)


def test_a_query_without_clauses_asks_for_ten_ids() -> None:
    assert parse("") == Query(fields=(("id",),), limit=10, offset=0)


def test_every_clause_is_read_in_its_long_and_short_form_and_in_any_order() -> None:
    long = "fields id,name, genres.*; exclude slug; where id = 1; sort name desc; limit 500; offset 20;"
    short = "o 20; l 500; s name desc; w id = 1; x slug; f id,name,genres.*;"
    query = parse(long)
    assert query == parse(short)
    assert query.fields == (("id",), ("name",), ("genres", "*"))
    assert (query.exclude, query.sort, query.limit, query.offset) == ((("slug",),), (("name",), True), 500, 20)


def test_comments_and_line_breaks_mean_nothing() -> None:
    assert parse("fields uid; // what; we = want\nlimit 5;\n") == parse("fields uid;limit 5;")


def test_sorting_ascends_unless_told_otherwise() -> None:
    assert parse("sort id;").sort == parse("sort id asc;").sort == (("id",), False)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param('uid = "10"', True, id="equal text"),
        pytest.param('uid = ("9","10")', True, id="any of a list"),
        pytest.param('uid = ("9","11")', False, id="none of a list"),
        pytest.param('uid != ("9","11")', True, id="not in a list"),
        pytest.param("genres = 8", True, id="a list holds a value"),
        pytest.param("genres = [5,8]", True, id="all of"),
        pytest.param("genres = [5,9]", False, id="not all of"),
        pytest.param("genres = {5,8}", True, id="exactly"),
        pytest.param("genres = {5}", False, id="not exactly"),
        pytest.param("cover = null", True, id="absent is null"),
        pytest.param("cover = n", True, id="null in short"),
        pytest.param("game != null", True, id="present is not null"),
        pytest.param("game > 71 & game >= 72 & game < 73 & game <= 72", True, id="orderings"),
        pytest.param("rating > 7.4", True, id="decimals"),
        pytest.param("game > -1", True, id="negative numbers"),
        pytest.param('name < "Z"', False, id="texts have no order"),
        pytest.param("cover < 5", False, id="null has no order"),
        pytest.param(r'name = "The \"Best\" \\ Game"', True, id="escapes"),
        pytest.param(r'name ~ "the \"BEST\" \\ game"', True, id="equal whatever the case"),
        pytest.param('uid = "10" & game = 1 | genres = 5', True, id="and binds tighter than or"),
        pytest.param('uid = "10" & (game = 1 | genres = 9)', False, id="parentheses"),
        pytest.param("(game = 72)", True, id="parentheses around one"),
        pytest.param("game = true", False, id="booleans"),
        pytest.param("game = f | game = t", False, id="booleans in short"),
        pytest.param('name = "The "*', True, id="begins with"),
        pytest.param('name = "the "*', False, id="begins with, the case counts"),
        pytest.param('name ~ "the "*', True, id="begins with, whatever the case"),
        pytest.param('name = *"Game"', True, id="ends with"),
        pytest.param('name = *"The"', False, id="ends with something else"),
        pytest.param(r'name ~ *"\"best\""*', True, id="contains, whatever the case"),
        pytest.param('name != *"Best"*', False, id="contains not"),
        pytest.param('cover != "x"*', True, id="absent begins with nothing"),
        pytest.param('game = "7"* | name > "T"*', False, id="wildcards are for texts and have no order"),
        pytest.param("genres = !(5,9)", False, id="none of, but there is one"),
        pytest.param("genres = !(9,10)", True, id="none of"),
        pytest.param("genres = ![5,9]", True, id="not all of"),
        pytest.param("genres != [5,8]", False, id="not all of, by the operator"),
        pytest.param("genres = !{5}", True, id="anything but exactly"),
        pytest.param("cover = !(1)", True, id="absent is none of"),
        pytest.param('uid ~ !("9")', True, id="none of, whatever the case"),
    ],
)
def test_a_condition_is_true_of_a_row_or_not(condition: str, expected: object) -> None:
    assert holds(condition) is expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("fields id", id="no semicolon"),
        pytest.param("fields id; where id = ;", id="no value"),
        pytest.param("fields id; where id = (1,2;", id="open list"),
        pytest.param('where uid = "10;', id="open string"),
        pytest.param("selekt id;", id="unknown clause"),
        pytest.param("limit many;", id="limit is no number"),
        pytest.param("where uid == 1;", id="unknown operator"),
        pytest.param("where id = (1,2];", id="brackets that do not match"),
        pytest.param('where name = "a"*"b";', id="wildcard within"),
        pytest.param("search Portal;", id="search without quotes"),
    ],
)
def test_what_is_not_apicalypse_is_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError, match="Unexpected input at"):
        parse(text)


def test_a_search_is_a_text() -> None:
    assert parse(r'search "Say \"Hi\""; fields name;') == Query(fields=(("name",),), search='Say "Hi"')


def test_a_multiquery_names_its_queries() -> None:
    text = """
        query games/count "How many" { };
        // what follows has a list in braces
        query games "Switch \\"n\\" go" { fields name; where platforms = {130} & id != (1,2); limit 1; };
    """
    assert parse_multiquery(text) == [
        NamedQuery("games/count", "How many", Query()),
        NamedQuery("games", 'Switch "n" go', parse("fields name; where platforms = {130} & id != (1,2); limit 1;")),
    ]
    assert parse_multiquery("") == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('query games "A" { fields name; }', id="no semicolon"),
        pytest.param("query games { fields name; };", id="no name"),
        pytest.param('query games "A" { fields name };', id="no semicolon within"),
        pytest.param("fields name;", id="a plain query"),
    ],
)
def test_what_is_no_multiquery_is_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError, match="Unexpected input at"):
        parse_multiquery(text)
