import pytest

from pipeline.errors import Refused
from pipeline.steam_id import Vanity, parse_steam_id

ACCOUNT = "76561197960287930"


@pytest.mark.parametrize(
    "text",
    [
        ACCOUNT,
        f"  {ACCOUNT}\n",
        "STEAM_0:0:11101",
        "steam_0:0:11101",
        "[U:1:22202]",
        "[u:1:22202:1]",
        f"https://steamcommunity.com/profiles/{ACCOUNT}",
        f"http://www.steamcommunity.com/profiles/{ACCOUNT}/",
        f"https://steamcommunity.com/openid/id/{ACCOUNT}",
        f"https://my.steamchina.com/profiles/{ACCOUNT}",
        f"steamcommunity.com/profiles/{ACCOUNT}/games/?tab=all#top",
        "https://steamcommunity.com/profiles/[U:1:22202]",
        "https://s.team/p/hjqp",
        "s.team/p/HJ-QP/",
    ],
)
def test_every_form_of_an_account_is_its_steam_id64(text: str) -> None:
    assert parse_steam_id(text) == ACCOUNT


@pytest.mark.parametrize(
    ("text", "steam_id64"),
    [
        pytest.param("76561197960265729", "76561197960265729", id="lowest id"),
        pytest.param("76561202255233023", "76561202255233023", id="highest id"),
        pytest.param("STEAM_0:1:2147483647", "76561202255233023", id="highest of the old form"),
        pytest.param("[U:1:4294967295]", "76561202255233023", id="highest account id"),
        pytest.param("s.team/p/wwww-wwww", "76561202255233023", id="highest invite"),
    ],
)
def test_the_whole_range_of_personal_accounts_is_understood(text: str, steam_id64: str) -> None:
    assert parse_steam_id(text) == steam_id64


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("76561197960265728", id="account 0"),
        pytest.param("76561202255233024", id="account 2^32"),
        pytest.param("10000000000000000", id="17 digits of no universe"),
        pytest.param("103582791429521412", id="group"),
        pytest.param("STEAM_0:2:11101", id="Y is a bit"),
        pytest.param("s.team/p/hjqa", id="invite with a vowel"),
        pytest.param("https://steamcommunity.com/profiles/gabelogannewell", id="name where a number goes"),
        pytest.param("https://steamcommunity.com/groups/valve", id="page of a group"),
        pytest.param("https://steamcommunity.com.evil.example/profiles/76561197960287930", id="another host"),
        pytest.param("ftp://steamcommunity.com/id/gabe", id="another scheme"),
        pytest.param("", id="empty"),
        pytest.param("x" * 33, id="33 characters"),
        pytest.param("gabe newell", id="blank inside"),
        pytest.param("７６５６１１９７９６０２８７９３０", id="full-width digits"),  # noqa: RUF001
        pytest.param("gаbe", id="Cyrillic letter"),  # noqa: RUF001
        pytest.param("https://ſteamcommunity.com/id/gabe", id="long s, which matches s without regard to case"),  # noqa: RUF001
        pytest.param("s.team/p/hjq\N{KELVIN SIGN}", id="Kelvin sign, which matches k without regard to case"),
        pytest.param("76561197960287930\0", id="NUL behind"),
    ],
)
def test_what_is_no_personal_account_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_steam_id(text)
    assert refused.value.code == "bad_steam_id"
    assert "Give a SteamID64" in refused.value.message
    assert len(refused.value.message) < 250


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("gabelogannewell", "gabelogannewell", id="name"),
        pytest.param("ab", "ab", id="2 characters"),
        pytest.param("a_-" * 10 + "xy", "a_-" * 10 + "xy", id="32 characters"),
        pytest.param("https://steamcommunity.com/id/gabelogannewell", "gabelogannewell", id="link"),
        pytest.param("steamcommunity.com/id/gabelogannewell/games?tab=all", "gabelogannewell", id="link to its games"),
        pytest.param(f"https://steamcommunity.com/id/{ACCOUNT}", ACCOUNT, id="name of 17 digits, by its link"),
        pytest.param("22202", "22202", id="a number too short for a SteamID64 is a name"),
    ],
)
def test_a_custom_url_is_a_name_to_resolve(text: str, name: str) -> None:
    assert parse_steam_id(text) == Vanity(name)
