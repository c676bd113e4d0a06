from functools import cache

import polars as pl
import pytest

from pipeline.frames.name_rules import RULES, STORE_GAME_RULES, Rule, first_matching_rule
from schemas.library import KINDS

MATCHED = {
    "demo": (
        "Half-Life Demo | Portal (Demo) | 战记Demo | Last Remnant - Demo 3 | ATRI 体験版 | 晴天咖啡館 試玩版 | "
        "LIVE A LIVE: Demo Version | Scraps Demo - LAN | Guate Demo: Early Preview | A Game + OST Demo"
    ),
    "playtest": "Dune: Awakening Playtest | Croak Tales - Playtest | 武动苍穹Play Test | Void Operators Playtest1",
    "beta": (
        "Conan Exiles - Public Beta Client | Rawbots Beta | Pizza Heroes (Closed Beta) | Zumbi Blocks 2 Open Alpha | "
        "Hunt: Showdown 1896 (Test Server) | PUBG: Experimental Server | Rust - Staging Branch | "
        "SMITE 2 - Public Test | "
        "虚拟主播模拟器 测试版 | 溯光行传媒测试"
    ),
    "soundtrack": (
        "Jamestown Soundtrack | Jamestown+ OST | Koihime Enbu Original Sound Track | Hades OST | Transistor (OST) | "
        "揭谛 原声带 | 硅心-音乐集 | 古今東西おきつね物語 サウンドトラック | Jump Space Original Score Vol. 1 | "
        "Ayre Original Music | Mega Man X5 Sound Collection | NEKOPARA Vol. 1 - Theme Song | "
        "Creaks Soundtrack + Art Book | Creaks Soundtrack & Art Book Vol. 2 | "
        "Winter With You Soundtrack | Sakuna: Of Rice and Ruin Original Soundtrack | Asteroids ++ Soundtrack | "
        "千禧梦OST | Foo [OST] | Foo/OST | Foo「OST」"
    ),
    "server": "Terraria - Dedicated Server | Source Dedicated Server | Survived (Dedicated Server) x64 | PCE Server | "
    "Hanako: Honor & Blade Dedicated Server",
    "sdk": "Simutrans SDK | Source SDK Base 2013 | ModboxSDK | Total War: ATTILA - Assembly Kit | XCOM 2 Modding Kit",
    "editor": "Arma Map-Editor | Football Manager 2022 Editor | Basketball 2023 DataEditor",
    "tools": "Dota 2 Workshop Tools | FSX Configuration Tool | Tabletop Uploader | Proton 7.0 | Proton Experimental",
    "multiplayer": "Call of Duty: Modern Warfare 2 - Multiplayer | Call of Duty: Ghosts - Multi-Player",
    "trailer": (
        "Bastion Trailer | Shank Trailer 2 | Portal 2 - Launch Trailer (German) | Total War (PEGI) | "
        "Homefront - Dev Diary 1 | GATE : Japanese Audio with English Subtitles"
    ),
    "lesson": "Blender Character Modeling For Beginners HD | Blade Tutorial: 3Ds Max 2017 | Drawing Fundamentals HD",
    "dlc": (
        "Krater - Dr. Cerebro DLC | Xotic DLC: Warp Field | Amnesia Downloadable Content | "
        "AploVVare Collection:18+ DLC | Fast & Furious DLC Bundle"
    ),
    "pack": "Tropico 5 - Map Pack | Rocksmith 2014 - Rise Against Song Pack | War Thunder - Starter Pack | "
    "Deceptus Map Pack + Bonus Items | Hatsune Miku: Project Diva - Mega Mix+ Extra Song Pack",
    "item": "Awesomenauts - Genji the Grey Skin | Street Fighter X Tekken - M.Bison (Swap Costume)",
    "guide": "BRINK: Prima Official Strategy Guide",
    "software": "CyberLink PowerDirector 15 | Movavi Photo Editor",
    "hardware": "Steam Controller | Valve Index Headset | ZOTAC NEN Steam Machine",
}

GAMES = {
    "demo": (
        "SpellForce 2 - Demons of the Past | Onikira - Demon Killer | Demolition Derby | Doko Demo Issho | Democracy 3"
    ),
    "playtest": "Playtester Simulator | A2C: Ayry Seems to be Playtesting a 2D Runner Shooter from Cci",
    "soundtrack": (
        "Call to Arms - Gates of Hell: Ostfront | Ghost | Lost in Sound | The Lion's Song: Episode 1 | "
        "Soundtracker Pro | L.O.S.T | L.O.S.T. | G.H.O.S.T. | WHITE ALBUM: Memories like Falling Snow | "
        "Song of Iron | Iron Tracks TD"
    ),
    "sold with an extra": (
        "A Game + OST | A Game + Soundtrack | A Game + Soundtrack Bundle | A Game + Expansion | "
        "A Game (with Soundtrack) | A Game & Original Soundtrack | A Game & Soundtrack Bundle | "
        "A Game + Season Pass | A Game + Map Pack | "
        "KINGDOM HEARTS III + Re Mind (DLC) | A Game + DLC | A Game incl. Soundtrack | A Game + Art Book and OST | "
        "A Game + OST + Artbook | A Game + Soundtrack + Art Book Bundle | A Game & OST & Artbook | A Game+OST | "
        "A Game with Soundtrack and Artbook | A Game + Soundtrack Vol. 1 | A Game + Soundtrack (2020) | "
        "A Game + Soundtrack™ | A Game + Soundtrack & Wallpaper | A Game + Expansion Pack 1 | "
        "A Game + Level Editor | A Game with Level Editor | A Game + Dedicated Server | A Game + SDK | "
        "Vampire Survivors: Game + All DLC + OST Bundle | Fasaria World: Ancients of Moons + Server"
    ),
    "called what a rule looks for": (
        "DEMO | The Demo | Playtest | The Soundtrack | Dedicated Server | The Server | SDK | Starter Pack | "
        "Stress Test | The Stress Test | The Beta Test | The Network Test | A Private Test | Open Beta | "
        "The Public Beta | DLC | The DLC | The OST | My OST | The SDK"
    ),
    "tests": "The Turing Test | Crash Test Simulator | Test Drive Unlimited 2 | A Test | Winnie's Taste Test | Contest",
    "betas": (
        "Alpha Protocol | Moonbase Alpha | Galaxity : Beta VR | Little Witch Nobeta | Serious Sam Fusion 2017 (beta)"
    ),
    "multiplayer": (
        "Legion TD 2 - Multiplayer Tower Defense | The Backrooms Multiplayer | Asteroids: Multiplayer | "
        "Dominus - Multiplayer Sim | A Game - Multiplayers"
    ),
    "films": (
        "Trailer Park Life | Trailer Shop Simulator | Gothic Playable Teaser | She Sees Red - Interactive Movie | "
        "Counter-Strike: Condition Zero Deleted Scenes | The Making of Karateka | Tower: The Making of Mages | "
        "Escape From The Tutorial"
    ),
    "trial": "Urban Trial Freestyle | Jury Trial | Free Lives | Snake Pass | A Game (Free) | Brave Earth: Prologue",
    "server": "Server is Down | Observer | Silent Observer",
    "editor": "Video Editor Tycoon | THE EDITOR | Kriegsfront Battlescaper - Diorama Editor | Creditor | SDK Paint",
    "tools": "Chess Tools | Robot Multitool | Project Rope Tool | Proton Pulse | Croc's World Construction Kit",
    "dlc": "DLC Quest | Expansion Core | Virus Expansion | A Game: The Expansion",
    "editions": (
        "Borderlands: Game of the Year Edition | Divinity: Original Sin - Definitive Edition | Space Rangers: Gold | "
        "Deluxe Ski Jump 2 | STAR WARS Empire at War - Gold Pack | Fruits Inc. Deluxe Pack | The Jackbox Party Pack 4"
    ),
    "item": "Chronotopia: Second Skin | Skinwalker Hunt",
    "guide": "art of rally | Slum Guide | Artist Simulator",
    "software": "Pro Office Calculator | Meet Your Maker | Overlay | Driver Parallel Lines",
    "hardware": "Heron: Steam Machine | SteamWorld Dig",
    "others": "Half-Life | 原神 | ™",
}


def examples(table: dict[str, str]) -> list[object]:
    return [pytest.param(key, name, id=f"{key}-{name}") for key, names in table.items() for name in names.split(" | ")]


@cache
def rules_of_examples() -> dict[str, str | None]:
    """The rule of each example; all are decided at once, as to compile the patterns takes longer than to search."""
    names = [name for table in (MATCHED, GAMES) for row in table.values() for name in row.split(" | ")]
    return {name: decided["rule"] if decided else None for name, decided in zip(names, decide(*names), strict=True)}


def decide(*names: str | None, rules: tuple[Rule, ...] = RULES) -> list[dict[str, str] | None]:
    return (
        pl.DataFrame({"name": names}, schema={"name": pl.String})
        .select(first_matching_rule(pl.col("name"), rules))
        .to_series()
        .to_list()
    )


@pytest.mark.parametrize(("rule", "name"), examples(MATCHED))
def test_a_rule_matches(rule: str, name: str) -> None:
    assert rules_of_examples()[name] == rule


@pytest.mark.parametrize(("like", "name"), examples(GAMES))
def test_a_game_with_a_similar_name_matches_no_rule(like: str, name: str) -> None:
    assert rules_of_examples()[name] is None, like


def test_no_mark_before_a_word_hides_a_name_from_a_rule_that_matches_it() -> None:
    names = [name.replace(" ", mark) for row in MATCHED.values() for name in row.split(" | ") for mark in "[/_「【"]
    # Every rule is tried on a name that begins with a keyword of another.
    assert decide(*(f"x {name}" for name in names)) == decide(*(f"runtime {name}" for name in names))


def test_every_rule_has_an_example_and_a_kind() -> None:
    assert list(MATCHED) == [rule.name for rule in RULES]
    assert {rule.kind for rule in RULES} < set(KINDS)


def test_the_first_rule_that_matches_decides() -> None:
    assert decide("A Game Map Pack Soundtrack", "A Game Level Editor (Demo)") == [
        {"kind": "soundtrack", "rule": "soundtrack"},
        {"kind": "demo", "rule": "demo"},
    ]


def test_each_name_of_a_column_is_decided_by_itself_and_against_the_store_type_game_by_fewer_rules() -> None:
    names = ("Half-Life", None, "HALF-LIFE demo", "", "Call of Duty: Ghosts - Multiplayer", "Tropico 5 - Map Pack")
    rules = [None, None, "demo", None, "multiplayer", "pack"]
    assert [row and row["rule"] for row in decide(*names)] == rules
    of_games = [row and row["rule"] for row in decide(*names, rules=STORE_GAME_RULES)]
    assert of_games == [None, None, None, None, "multiplayer", None]
    assert {rule.kind for rule in STORE_GAME_RULES} == {"beta", "multiplayer_component"}
    assert decide() == []
