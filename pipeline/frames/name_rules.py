"""The rules that tell from its name that an app is no game: a table, compiled into one expression."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl


class Rule(NamedTuple):
    r"""A pattern of names, and the kind of the apps whose names it matches.

    `pattern` is searched in the name in lower case; its `\b` is a border of ASCII letters and digits, so that there is
    one in 战记Demo. `evidence` counts, by their types, the real apps that the rule decides among the 105,871 of
    `python -m benchmarks.classification`, without games mistyped at the source. A rule that `beats_store` holds even
    where the store says game.
    """

    name: str
    pattern: str
    kind: str
    evidence: str
    beats_store: bool = False


_TEST_KINDS = r"public|closed|private|exclusive|technical|tech|network|stress|alpha|beta"

_EDITOR_OF = (
    r"level|map|mission|scenario|campaign|data|skins?|mod|world|track|workshop|database|resource|character|in-game"
)

_TOOLS_FOR = (
    r"workshop|mod|modding|developer|configuration|config|creation|map|level|asset|content|server|upload|experimental"
)

# No edition words (deluxe, premium, collector's …): 1,840 games have them.
_PACK_OF = (
    r"maps?|skins?|characters?|songs?|weapons?|content|costumes?|hero|unit|starter|booster|missions?|textures?|cars?"
    r"|tracks?|music|voice|avatars?|items?|cosmetics?|vehicles?|supporter'?s?|personalization|jobs?|livery|tokens?"
    r"|tiles?|tileset|graphics|sounds?|scenery|assets?|resource|theme|language|models?|wargear|team|founder'?s|bonus"
    r"|soldier|emotes?|outfits?|armou?r|clothes|clothing|faction|accessory|gem|campaign|scenario|animals?|race|level"
    r"|dungeon|portraits?|donation|stickers?|dlc|decoration|furniture|gear|ships?|tanks?|aircraft|rider|player|class"
    r"|monsters?|creatures?|expansion"
)

RULES = (
    Rule("demo", r"demo[^a-z]*$", "demo", "24,961 demo, 24 video; no game"),
    Rule("playtest", r"play[ -]?test[0-9]*s?\b", "beta", "4,752 beta, 4 tool; no game", beats_store=True),
    Rule("soundtrack", r"\bsound ?track|[ (-]ost\b", "soundtrack", "5,162 music, 36 dlc; no game"),
    Rule("dedicated_server", r"\bdedicated[ -]server", "tool", "302 tool; 1 game"),
    Rule("sdk", r"sdk\b|\b(map|mod|dev|development|assembly|modding) kit\b", "tool", "50 tool, 1 media; no game"),
    Rule(
        "test_server",
        r"\b(test|testing|staging|experimental) (server|branch|client|build|realm|environment)\b",
        "beta",
        "3 tool, 3 beta; no game",
        beats_store=True,
    ),
    Rule(
        "public_test",
        rf"[^a-z]({_TEST_KINDS}) test\b| - (test|experimental|staging|unstable)$|[ (]pt[rbs]\)?$",
        "beta",
        "20 beta, 2 demo; 2 games",
        beats_store=True,
    ),
    Rule(
        "beta",
        # Not `alpha$` (12 betas, 34 games), not `\(beta\)$` (6 betas, 8 games).
        r"\bbeta$|[^a-z](open|closed|private|public|technical) (beta|alpha)\b",
        "beta",
        "78 beta, 11 demo; 2 games",
        beats_store=True,
    ),
    Rule(
        "test_abroad",
        r"测试(版|服|$)|測試(版|服|$)|封测|封測|内测|內測|テスト版|ベータ版",
        "beta",
        "19 beta; 1 game",
        beats_store=True,
    ),
    Rule("demo_abroad", r"体験版|體驗版|试玩|試玩|试用版|試用版", "demo", "75 demo, 2 beta; 2 games"),
    Rule(
        "demo_version",
        # Not every word demo: 34 names on IGDB go on after it, most of them Japanese (Doko Demo Issho).
        r"\bdemo( version| ver\b| build| disc| edition|:| [-|(])",
        "demo",
        "29 demo, 3 media; no game",
    ),
    Rule("soundtrack_abroad", r"原声|原聲|音乐集|音樂集|サウンドトラック", "soundtrack", "48 music; no game"),
    Rule("score", r"\boriginal (sound|score|music)\b|\bo\.s\.t\b", "soundtrack", "7 music; no game"),
    # Not every `multiplayer$`: 11 games more.
    Rule("multiplayer", r" - multi-?player$", "multiplayer_component", "1 media, 1 config; 2 games", beats_store=True),
    Rule(
        "music",
        r"\b(sound|music|audio|piano|song) collections?\b|\b(theme|character|vocal) songs?\b|\b(bonus|extra) tracks?\b"
        r"|\b(arrange|arrangement|remix|vocal|orchestral|mini)[ -]album\b|\baudio ?(book|drama)\b"
        r"|\bdrama cd\b|\bradio drama\b|^the music of | - (the )?music (of|from|for) ",
        "soundtrack",
        "95 music, 3 application; no game",
    ),
    Rule(
        "trailer",
        r"trailer[^a-z]*$|\b(launch|gameplay|teaser|announcement|release|story|cinematic|reveal) trailer\b"
        r"|\btrailer (de|fr|es|it|uk|eng?|eu|us|german|french|spanish|english)\b|\b(esrb|pegi|usk)\b",
        "video",
        "972 media, 7 video; no game",
    ),
    Rule(
        "footage",
        r"\b(dev|developer|development) diar(y|ies)\b|[-:] (the )?(making of|behind the scenes|deleted scenes|outtakes)"
        r"\b|\bfeaturettes?\b|[^a-z]documentary\b|\b(english|german|french|spanish) subtitles\b|- gameplay\b"
        r"|[^a-z]gameplay$",
        "video",
        "144 video, 35 media; no game",
    ),
    Rule(
        "lesson",
        r"\btutorial( -|:)|\b(modeling|rigging|sculpting|drawing|painting|animation) for beginners\b|\b3ds max\b"
        r"|\bdrawing (course|fundamentals)\b|\bsubstance painter\b",
        "video",
        "307 video, 4 application; no game",
    ),
    Rule(
        "trial",
        # Not `free edition$`: 7 demos, 2 games.
        r"\(free\)$|\bfree trial\b|\btrial ver(sion)?\b|\bfriend.{0,2} pass\b",
        "demo",
        "62 demo, 1 beta; 3 games",
    ),
    Rule("server", r"\bserver$|服务器$|伺服器$", "tool", "41 tool, 2 application; no game"),
    # Not every ` editor$`: 4 games more, The Editor among them.
    Rule(
        "editor", rf"({_EDITOR_OF})[ -]?editor$|[0-9] editor$| [-:] editor$", "tool", "49 tool, 2 application; no game"
    ),
    Rule(
        "tools",
        # Not every `\btools?$`: 3 games more.
        rf"\b({_TOOLS_FOR}) tools?( kit)?$|\buploader$|^proton ([0-9]|experimental|hotfix)|^steam linux runtime\b",
        "tool",
        "62 tool, 2 application; no game",
    ),
    Rule("season_pass", r"\b(season|expansion) pass\b", "dlc", "8 dlc; no game"),
    # A name with a plus is a game sold with its DLC.
    Rule(
        "dlc",
        r"^[^+]+[^a-z+]dlc\b|\bdownloadable content\b|[-:] .*\bexpansion$",
        "dlc",
        "199 dlc, 38 application; no game",
    ),
    # Not every `\bpack$`: 26 games more.
    Rule("pack", rf"\b({_PACK_OF}) packs?\b", "dlc", "231 dlc, 19 config; no game"),
    Rule("item", r" - .*\b(skins?|costumes?|outfits?|livery|unlock)\)?$", "dlc", "20 dlc; no game"),
    Rule(
        "bonus",
        r"\bart ?books?($| \+| &| and )|\bdigital art ?book\b|アートブック|设定集|設定集|画集|畫集|[^a-z]wallpapers$"
        r"|\bstrategy guide\b|\bofficial .*guide\b|\bbonus (content|materials?|features|disc)\b",
        "bonus_content",
        "16 guide, 5 tool; 1 game",
    ),
    Rule(
        "software",
        r"\blive wallpaper\b|^wallpaper engine\b|[^a-z](converter|crosshair)\b|\bvoice changer\b"
        r"|^(cyberlink|magix|movavi)\b|[^a-z](overlay|benchmark)$|\b(video|photo|image|audio|pdf) (editor|converter)$",
        "software",
        "99 application, 2 tool; 1 game",
    ),
    Rule(
        "hardware",
        r"^steam (machine|controller|deck|link|frame)\b|^valve index\b|^[^:]+ steam machine$",
        "hardware",
        "15 hardware, 4 config; no game",
    ),
)
"""All rules about names, in their order: the first rule that matches a name decides."""

STORE_GAME_RULES = tuple(rule for rule in RULES if rule.beats_store)
"""The rules that decide even for apps whose type in Steam's store is game."""

_KEYWORDS = (
    *("demo", "体験", "體驗", "试", "試", "test", " ost", "(ost", "-ost", "o.s.t", "original", "原声", "原聲", "音乐"),
    *("音樂", "サウンド", "dedicated", "sdk", " kit", "staging", "experimental", "unstable", " pt", "(pt", "beta"),
    *(" alpha", "测", "測", "テスト", "ベータ", "- multi", "music", "audio", "sound", "piano", "song", " track"),
    *("album", "drama", "trailer", "esrb", "pegi", "usk", "diar", "making of", "behind the", "deleted", "outtakes"),
    *("featurette", "documentary", "subtitles", "gameplay", "tutorial", "beginners", "3ds max", "drawing", "substance"),
    *("(free)", "trial", " pass", "server", "服务器", "伺服器", "editor", "tool", "uploader", "proton", "runtime"),
    *("dlc", "downloadable", "expansion", " pack", "skin", "costume", "outfit", "livery", "unlock", "art book"),
    *("artbook", "アートブック", "设定", "設定", "画集", "畫集", "wallpaper", "guide", "bonus", "converter"),
    *("crosshair", "changer", "overlay", "benchmark", "cyberlink", "magix", "movavi", "steam ", "valve"),
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
    first = _first_number(name.filter(has_keyword).str.to_lowercase(), tuple(enumerate(rules)))
    rows = rows.struct.with_fields(first=_spread(first, has_keyword))
    return pl.lit(outcomes).gather(rows.struct.field("first"))


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
