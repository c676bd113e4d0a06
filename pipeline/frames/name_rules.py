"""The rules that tell from its name that an app is no game: a table, compiled into one expression."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl


class Rule(NamedTuple):
    r"""Patterns of names, and the kind of the apps whose names match one of them.

    `patterns` are searched in the name in lower case; their `\b` is a border of ASCII letters and digits, so that there
    is one in 战记Demo. Each has the evidence of ten apps or more, names a product of Valve, or finds a class that the
    specification asks for (multiplayer). `evidence` counts, by their types, the real apps that the rule decides among
    the 105,871 of `python -m benchmarks.classification`, without games mistyped at the source. A rule that
    `beats_store` holds even where the store says game.
    """

    name: str
    kind: str
    patterns: tuple[str, ...]
    evidence: str
    beats_store: bool = False

    @property
    def pattern(self) -> str:
        """The patterns as one."""
        return "|".join(self.patterns)


_ENVIRONMENTS = "server|branch|client|build|environment"
_TESTS = rf"(public|closed|private|technical|tech|network|stress|alpha|beta) test( ({_ENVIRONMENTS}))?"
_TEST_SERVERS = rf"(test|testing|staging|experimental) ({_ENVIRONMENTS})"

# No edition words (deluxe, premium, collector's …): 1,840 games have them.
_PACK_OF = r"maps?|characters?|songs?|hero|unit|starter|personalization|gem|expansion"

RULES = (
    Rule(
        "demo",
        "demo",
        (
            r"demo[^a-z]*$",
            # Not every word demo: 34 names on IGDB go on after it, most of them Japanese (Doko Demo Issho).
            r"\bdemo( version| ver\b| build| disc| edition|:| [-|(])",
            r"体験版|體驗版|试玩|試玩|试用版|試用版",
        ),
        "25,065 demo, 24 video; 2 games",
    ),
    Rule("playtest", "beta", (r"play[ -]?test[0-9]*s?\b",), "4,752 beta, 4 tool; no game", beats_store=True),
    Rule(
        "beta",
        "beta",
        (
            # Not `alpha$` (12 betas, 34 games), not `\(beta\)$` (6 betas, 8 games).
            r"\bbeta$",
            r"[^a-z](open|closed|private|public|technical) (beta|alpha)\b",
            rf"[^a-z]({_TESTS}|{_TEST_SERVERS})\b",
            r"测试(版|服|$)|測試(版|服|$)",
        ),
        "117 beta, 13 demo; 4 games",
        beats_store=True,
    ),
    Rule(
        "soundtrack",
        "soundtrack",
        (
            r"\b((official|original|game|digital) )*sound ?tracks?\b",
            r"[^a-z0-9.']ost\b",
            r"\boriginal (sound|score|music)\b",
            r"原声|原聲|音乐集|音樂集|サウンドトラック",
            r"\b(sound|music|audio|piano|song) collections?\b",
            r"\b(theme|character|vocal) songs?\b",
            r"\b(arrange|arrangement|remix|vocal|orchestral|mini)[ -]album\b",
        ),
        "5,284 music, 36 dlc; no game",
    ),
    Rule("server", "tool", (r"\bdedicated[ -]server", r"\bserver$"), "328 tool, 2 application; 1 game"),
    Rule(
        "sdk",
        "tool",
        (r".sdk\b", r"\b(map|mod|dev|development|assembly|modding) kit\b"),
        "45 tool, 1 application; no game",
    ),
    # Not every ` editor$`: 4 games more, The Editor among them.
    Rule(
        "editor", "tool", (r"\b(level|map|data|database)[ -]?editor$|[0-9] editor$",), "39 tool, 1 application; no game"
    ),
    Rule(
        "tools",
        "tool",
        (
            # Not every `\btools?$`: 3 games more.
            r"\b(workshop|mod|modding|configuration) tools?( kit)?$",
            r"\buploader$",
            r"^proton ([0-9]|experimental|hotfix)",
            r"^steam linux runtime\b",
        ),
        "58 tool; no game",
    ),
    # Under ten apps, but a class of the specification. Not every `multiplayer$`: 11 games more.
    Rule(
        "multiplayer", "multiplayer_component", (r" - multi-?player$",), "1 config, 1 media; 2 games", beats_store=True
    ),
    Rule(
        "trailer",
        "video",
        (
            r"trailer[^a-z]*$",
            r"\b(launch|gameplay|teaser|announcement|release|story|cinematic|reveal) trailer\b",
            r"\btrailer (de|fr|es|it|uk|eng?|eu|us|german|french|spanish|english)\b",
            r"\b(esrb|pegi|usk)\b",
            r"\b(dev|developer|development) diar(y|ies)\b",
            r"\b(english|german|french|spanish) subtitles\b",
        ),
        "991 media, 93 video; no game",
    ),
    Rule(
        "lesson",
        "video",
        (
            r"\b(modeling|rigging|sculpting|drawing|painting|animation) for beginners\b",
            r"\b3ds max\b",
            r"\bdrawing (course|fundamentals)\b",
            r"\bsubstance painter\b",
        ),
        "303 video, 3 series; no game",
    ),
    # Not at the start of a name: DLC Quest.
    Rule("dlc", "dlc", (r"[^a-z]dlc\b", r"\bdownloadable content\b"), "196 dlc, 38 application; no game"),
    # Not every `\bpack$`: 26 games more.
    Rule("pack", "dlc", (rf"\b({_PACK_OF}) packs?\b",), "142 dlc, 2 media; no game"),
    Rule("item", "dlc", (r" - .*\b(skins?|costumes?)\)?$",), "13 dlc; no game"),
    Rule("guide", "bonus_content", (r"\b(official|strategy)( .*)? guide\b",), "16 guide; no game"),
    Rule("software", "software", (r"^(cyberlink|magix|movavi)\b",), "64 application, 1 tool; no game"),
    Rule(
        "hardware",
        "hardware",
        (r"^steam (machine|controller|deck|link|frame)\b", r"^valve index\b", r"^[^:]+ steam machine$"),
        "15 hardware, 4 config; no game",
    ),
)
"""All rules about names, in their order: the first rule that matches a name decides."""

_EXTRAS = (
    r"ost|sound ?tracks?|score|music|songs?|albums?|art ?books?|dlcs?|content|guide|packs?|skins?|costumes?|expansions?"
    r"|servers?|sdk|editors?|tools"
)

_WITH = (
    r"( \+ ?|\x{ff0b})([^+]*[^a-z+])?|\+"
    r"|[ (](&|and|with|plus|incl[a-z.]*) ((the|its|official|original|digital|bonus|game|level|dedicated) )*"
)

EXTRA = rf"({_WITH})({_EXTRAS})\b.*$"
"""A pattern for what a game is sold with, in lower case (… + OST): it is taken off a name that a rule matches.

If a rule matches what stands before it too, the app is an extra (… Soundtrack + Art Book), and else a game.
"""

EXTRA_KINDS = ("soundtrack", "dlc", "bonus_content", "tool")
"""The kinds of what games are sold with."""

_MARKS = r"[ -/:-@\[-`{-~]*"

_ANYWHERE = "|".join(pattern for rule in RULES for pattern in rule.patterns if pattern[0] != "^")

CALLED_SO = rf"^{_MARKS}((the|an?|my)\b)?{_MARKS}({_ANYWHERE}){_MARKS}$"
"""A pattern of names, in lower case after a blank, that are nothing but what a rule looks for: no rule takes them."""

STORE_GAME_RULES = tuple(rule for rule in RULES if rule.beats_store)
"""The rules that decide even for apps whose type in Steam's store is game."""

_KEYWORDS = (
    *("demo", "体験", "體驗", "试", "試", "test", "beta", " alpha", "测", "測", "staging", "experimental", "sound"),
    *("ost", "original", "原声", "原聲", "音乐", "音樂", "サウンド", "collection", " song", "album"),
    *("server", "sdk", " kit", "editor", "tool", "uploader", "proton", "runtime", "- multi", "trailer", "esrb"),
    *("pegi", "usk", "diar", "subtitles", "beginners", "3ds max", "drawing", "substance", "dlc", "downloadable"),
    *(" pack", "skin", "costume", "guide", "cyberlink", "magix", "movavi", "steam ", "valve"),
)
"""No rule matches a name without any of these; 19 games in 20 have none. More than 100 cost four times as much."""


def first_matching_rule(names: pl.Expr, rules: Sequence[Rule] = RULES) -> pl.Expr:
    """Return an expression for the first rule that matches each name: a struct of `kind` and `rule`, or null."""
    # A struct computes each of its fields once, however often it is used.
    name, has_keyword = pl.field("name"), pl.field("has_keyword")
    outcomes = pl.Series("outcomes", [{"kind": rule.kind, "rule": rule.name} for rule in rules])
    rows = pl.struct(name=names).struct.with_fields(
        has_keyword=name.str.contains_any(list(_KEYWORDS), ascii_case_insensitive=True)
    )
    first = _first_number_of_app(name.filter(has_keyword).str.to_lowercase(), tuple(enumerate(rules)))
    rows = rows.struct.with_fields(first=_spread(first, has_keyword))
    return pl.lit(outcomes).gather(rows.struct.field("first"))


def _first_number_of_app(names: pl.Expr, rules: Sequence[tuple[int, Rule]]) -> pl.Expr:
    """Return an expression for the number of the first rule that matches more than an extra or the whole name."""
    name, first, has_extra, is_called_so = map(pl.field, ("name", "first", "has_extra", "is_called_so"))
    is_extra = first.is_in([number for number, rule in rules if rule.kind in EXTRA_KINDS]).fill_null(value=False)
    is_beside_game = name.filter(is_extra).str.contains(_with_ascii_borders(EXTRA))
    without_extra = name.filter(has_extra).str.replace(_with_ascii_borders(EXTRA), "")
    named_so = (" " + name.filter(first.is_not_null())).str.contains(_with_ascii_borders(CALLED_SO))
    # One struct after the other: an expression on a struct that is used twice is computed twice.
    return (
        pl.struct(name=names)
        .struct.with_fields(first=_first_number(name, rules))
        .struct.with_fields(has_extra=_spread(is_beside_game, is_extra).fill_null(value=False))
        .struct.with_fields(is_called_so=_spread(named_so, first.is_not_null()))
        .struct.with_fields(
            first=pl.when(has_extra)
            .then(_spread(_first_number(without_extra, rules), has_extra))
            .when(~is_called_so)
            .then(first)
        )
        .struct.field("first")
    )


def _first_number(names: pl.Expr, rules: Sequence[tuple[int, Rule]], at_once: int = 1) -> pl.Expr:
    """Return an expression for the number of the first rule that matches; a rule is tried on names still unmatched.

    Three rules decide nine in ten of the names that any decides: to try 1, 2, 4, 8 … rules at once is faster than all.
    """
    name, first = pl.field("name"), pl.field("first")
    numbers = (
        pl.when(name.str.contains(_with_ascii_borders(rule.pattern))).then(pl.lit(number, pl.UInt8))
        for number, rule in rules[:at_once]
    )
    rows = pl.struct(name=names).struct.with_fields(first=pl.coalesce(numbers))
    if len(rules) > at_once:
        is_undecided = first.is_null()
        later = _first_number(name.filter(is_undecided), rules[at_once:], 2 * at_once)
        rows = rows.struct.with_fields(first=pl.coalesce(first, _spread(later, is_undecided)))
    return rows.struct.field("first")


def without_words_of_rule(names: pl.Expr, rule_names: pl.Expr) -> pl.Expr:
    """Return an expression for the names in lower case without the words that the rule of each one looks for."""
    lower = names.str.to_lowercase()
    return pl.coalesce(
        pl.when(rule_names == rule.name).then(lower.str.replace_all(_with_ascii_borders(rule.pattern), " "))
        for rule in RULES
    )


def _with_ascii_borders(pattern: str) -> str:
    return pattern.replace(r"\b", r"(?-u:\b)")


def _spread(outcomes: pl.Expr, is_chosen: pl.Expr) -> pl.Expr:
    """Return an expression that puts the outcomes of the chosen rows on all rows, null on the others."""
    return outcomes.gather(pl.when(is_chosen).then(is_chosen.cum_sum() - 1))
