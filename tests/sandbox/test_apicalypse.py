import pytest

from pipeline.sandbox.apicalypse import Comparison, NamedQuery, Query, QuerySyntaxError, parse_multiquery, parse_query


def test_clauses_are_read_in_any_order_and_all_of_them_may_be_left_out() -> None:
    assert parse_query(" \n") == Query(fields=(("id",),), where=((),), limit=10, offset=0)
    text = "limit 500;offset 20; sort name desc;\nwhere id = 1; fields id,name, genres.slug;"
    assert parse_query(text) == Query(
        fields=(("id",), ("name",), ("genres", "slug")),
        where=((Comparison(("id",), "=", frozenset({1})),),),
        sort=("name",),
        is_descending=True,
        limit=500,
        offset=20,
    )


def test_and_binds_tighter_than_or() -> None:
    one, two, three = (Comparison((name,), "=", frozenset({1})) for name in "abc")
    assert parse_query("where a = 1 & b = 1 | c = 1;").where == ((one, two), (three,))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("fields id", id="no semicolon"),
        pytest.param("fields *;", id="a star, which our clients never ask for"),
        pytest.param("where id = (1,2;", id="open list"),
        pytest.param("where id = 1 &;", id="nothing behind a sign"),
        pytest.param('where uid = "10;', id="open text"),
        pytest.param("where (id = 1);", id="parentheses around a condition"),
        pytest.param('where name ~ *"portal"*;', id="a wildcard"),
        pytest.param("selekt id;", id="unknown clause"),
        pytest.param("limit many;", id="limit is no number"),
        pytest.param("search Portal;", id="search without quotes"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError, match="Unexpected input at"):
        parse_query(text)


def test_a_multiquery_names_its_queries() -> None:
    text = 'query games/count "How many" { };\nquery games "Switch \\"n\\" {go}" { fields name; where slug = "}"; };'
    assert parse_multiquery(text) == [
        NamedQuery("games/count", "How many", Query()),
        NamedQuery("games", 'Switch "n" {go}', parse_query('fields name; where slug = "}";')),
    ]


@pytest.mark.parametrize("text", ['query games "A" { fields name; }', "query games { fields name; };", "fields name;"])
def test_other_texts_are_no_multiquery(text: str) -> None:
    with pytest.raises(QuerySyntaxError, match="Unexpected input at"):
        parse_multiquery(text)
