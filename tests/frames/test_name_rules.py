import polars as pl
import pytest

from pipeline.frames.name_rules import RULES, STORE_GAME_RULES, Rule, first_matching_rule
from schemas.library import KINDS

MATCHED = {
    "demo": "Half-Life Demo | Portal (Demo) | 战记Demo | SFD_DEMO | Last Remnant - Demo 3 | DEMO",
    "playtest": "Dune: Awakening Playtest | Croak Tales - Playtest | 武动苍穹Play Test | Void Operators Playtest1",
    "soundtrack": "Jamestown Soundtrack | Koihime Enbu Original Sound Track | Hades OST | Transistor (OST)",
    "dedicated_server": "Terraria - Dedicated Server | Source Dedicated Server | Survived (Dedicated Server) x64",
    "sdk": "Simutrans SDK | Source SDK Base 2013 | ModboxSDK | Total War: ATTILA - Assembly Kit | XCOM 2 Modding Kit",
    "test_server": "Hunt: Showdown 1896 (Test Server) | PUBG: Experimental Server | Rust - Staging Branch",
    "public_test": "SMITE 2 - Public Test | PlanetSide 2 - Test | Arena of Kings PTR | DayZ - Experimental",
    "beta": "Conan Exiles - Public Beta Client | Rawbots Beta | Pizza Heroes (Closed Beta) | Zumbi Blocks 2 Open Alpha",
    "test_abroad": "虚拟主播模拟器 测试版 | 溯光行传媒测试 | Vtuber大師-封測版",
    "demo_abroad": "ATRI 体験版 | 叛逆神魂 试玩版 | 晴天咖啡館 試玩版",
    "demo_version": (
        "LIVE A LIVE: Demo Version | Scraps Demo - LAN | Guate Demo: Early Preview | Dolguth Demo (deathmatch)"
    ),
    "soundtrack_abroad": "揭谛 原声带 | 硅心-音乐集 | 古今東西おきつね物語 サウンドトラック",
    "score": "Jump Space Original Score Vol. 1 | Ayre Original Music | My Vow to My Liege O.S.T.",
    "multiplayer": "Call of Duty: Modern Warfare 2 - Multiplayer | Call of Duty: Ghosts - Multi-Player",
    "music": "Mega Man X5 Sound Collection | NEKOPARA Vol. 1 - Theme Song | Sea of Thieves Audiobook",
    "trailer": "Bastion Trailer | Shank Trailer 2 | Portal 2 - Launch Trailer (German) | Total War (PEGI)",
    "footage": "Homefront - Dev Diary 1 | Dear White People: Outtakes | GATE : Japanese Audio with English Subtitles",
    "lesson": "Blender Character Modeling For Beginners HD | Blade Tutorial: 3Ds Max 2017 | Drawing Fundamentals HD",
    "trial": "Champions Online - Free Trial | ALONE (Free) | Split Fiction: Friend's Pass | EDENS ZERO TRIAL VERSION",
    "server": "PCE Server | 全城追缉3服务器",
    "editor": "Arma Map-Editor | Football Manager 2022 Editor | Basketball 2023 DataEditor | Crusader - Editor",
    "tools": "Dota 2 Workshop Tools | FSX Configuration Tool | Tabletop Uploader | Proton 7.0 | Proton Experimental",
    "season_pass": "Far Cry 5 Season Pass | FINAL FANTASY XVI Expansion Pass",
    "dlc": "Krater - Dr. Cerebro DLC | Xotic DLC: Warp Field | Amnesia Downloadable Content | A Game: The Expansion",
    "pack": "Tropico 5 - Map Pack | Rocksmith 2014 - Rise Against Song Pack | War Thunder - Starter Pack",
    "item": "Awesomenauts - Genji the Grey Skin | Street Fighter X Tekken - M.Bison (Swap Costume)",
    "bonus": "Indiana Jones - Digital Artbook | BRINK: Prima Official Strategy Guide | Serious Sam 3 Bonus Content",
    "software": "Wallpaper Engine | CyberLink PowerDirector 15 | Movavi Photo Editor | MixMax Crosshair Overlay",
    "hardware": "Steam Controller | Valve Index Headset | ZOTAC NEN Steam Machine",
}

GAMES = {
    "demo": (
        "SpellForce 2 - Demons of the Past | Onikira - Demon Killer | Demolition Derby | Doko Demo Issho | Democracy 3"
    ),
    "playtest": "Playtester Simulator | A2C: Ayry Seems to be Playtesting a 2D Runner Shooter from Cci",
    "soundtrack": "Call to Arms - Gates of Hell: Ostfront | Ghost | Lost in Sound | The Lion's Song: Episode 1",
    "tests": "The Turing Test | Crash Test Simulator | Test Drive Unlimited 2 | A Test | Winnie's Taste Test | Contest",
    "betas": (
        "Alpha Protocol | Moonbase Alpha | Galaxity : Beta VR | Little Witch Nobeta | Serious Sam Fusion 2017 (beta)"
    ),
    "multiplayer": (
        "Legion TD 2 - Multiplayer Tower Defense | The Backrooms Multiplayer | Asteroids: Multiplayer | "
        "Dominus - Multiplayer Sim | A Game - Multiplayers"
    ),
    "music": "WHITE ALBUM: Memories like Falling Snow | Song of Iron | Music of the Spheres | Iron Tracks TD",
    "trailer": "Trailer Park Life | Trailer Shop Simulator | Gothic Playable Teaser | She Sees Red - Interactive Movie",
    "footage": "Counter-Strike: Condition Zero Deleted Scenes | The Making of Karateka | Escape From The Tutorial",
    "trial": "Urban Trial Freestyle | Jury Trial | Free Lives | Snake Pass | Brave Earth: Prologue",
    "server": "Server is Down | Observer | Silent Observer",
    "editor": "Video Editor Tycoon | THE EDITOR | Kriegsfront Battlescaper - Diorama Editor | Creditor",
    "tools": "Chess Tools | Robot Multitool | Project Rope Tool | Proton Pulse | Croc's World Construction Kit",
    "dlc": "DLC Quest | KINGDOM HEARTS III + Re Mind (DLC) | Expansion Core | Virus Expansion",
    "editions": (
        "Borderlands: Game of the Year Edition | Divinity: Original Sin - Definitive Edition | Space Rangers: Gold | "
        "Deluxe Ski Jump 2 | STAR WARS Empire at War - Gold Pack | Fruits Inc. Deluxe Pack | The Jackbox Party Pack 4"
    ),
    "item": "Chronotopia: Second Skin | Skinwalker Hunt",
    "bonus": "art of rally | Slum Guide | Artist Simulator",
    "software": "Pro Office Calculator | Meet Your Maker | Overlay | Driver Parallel Lines",
    "hardware": "Heron: Steam Machine | SteamWorld Dig",
    "others": "Half-Life | 原神 | ™",
}


def examples(table: dict[str, str]) -> list[object]:
    return [pytest.param(key, name, id=f"{key}-{name}") for key, names in table.items() for name in names.split(" | ")]


def decide(*names: str | None, rules: tuple[Rule, ...] = RULES) -> list[dict[str, str] | None]:
    return (
        pl.DataFrame({"name": names}, schema={"name": pl.String})
        .select(first_matching_rule(pl.col("name"), rules))
        .to_series()
        .to_list()
    )


@pytest.mark.parametrize(("rule", "name"), examples(MATCHED))
def test_a_rule_matches(rule: str, name: str) -> None:
    (decided,) = decide(name)
    assert decided is not None
    assert decided["rule"] == rule


@pytest.mark.parametrize(("like", "name"), examples(GAMES))
def test_a_game_with_a_similar_name_matches_no_rule(like: str, name: str) -> None:
    assert decide(name) == [None], like


def test_every_rule_has_an_example_and_a_kind() -> None:
    assert list(MATCHED) == [rule.name for rule in RULES]
    assert {rule.kind for rule in RULES} < set(KINDS)


def test_the_first_rule_that_matches_decides() -> None:
    assert decide("A Game Season Pass Soundtrack", "A Game Level Editor (Demo)") == [
        {"kind": "soundtrack", "rule": "soundtrack"},
        {"kind": "demo", "rule": "demo"},
    ]


def test_each_name_of_a_column_is_decided_by_itself_and_against_the_store_type_game_by_fewer_rules() -> None:
    names = ("Half-Life", None, "HALF-LIFE demo", "", "Call of Duty: Ghosts - Multiplayer", "Far Cry 5 Season Pass")
    rules = [None, None, "demo", None, "multiplayer", "season_pass"]
    assert [row and row["rule"] for row in decide(*names)] == rules
    of_games = [row and row["rule"] for row in decide(*names, rules=STORE_GAME_RULES)]
    assert of_games == [None, None, None, None, "multiplayer", None]
    assert {rule.kind for rule in STORE_GAME_RULES} == {"beta", "multiplayer_component"}
    assert decide() == []
