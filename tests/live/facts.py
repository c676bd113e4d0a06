"""What the reference leaves uncertain about Steam and IGDB, and how a recording decides it."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from pipeline.apis.igdb_queries import PAGE_SIZE
from tests.live.exchanges import Exchange, Recording
from tests.live.probes import UNUSED_ID

OK, BAD_REQUEST, TIMED_OUT, TOO_LARGE, TOO_MANY, SERVER_ERROR = 200, 400, 408, 413, 429, 500
NOT_HEARD = {401, 403, TOO_MANY}
"""Statuses below 500 that say nothing of the question."""

GENRES = {
    2: "Point-and-click", 4: "Fighting", 5: "Shooter", 7: "Music", 8: "Platform", 9: "Puzzle", 10: "Racing",
    11: "Real Time Strategy (RTS)", 12: "Role-playing (RPG)", 13: "Simulator", 14: "Sport", 15: "Strategy",
    16: "Turn-based strategy (TBS)", 24: "Tactical", 25: "Hack and slash/Beat 'em up", 26: "Quiz/Trivia",
    30: "Pinball", 31: "Adventure", 32: "Indie", 33: "Arcade", 34: "Visual Novel", 35: "Card & Board Game",
    36: "MOBA",
}  # fmt: skip


class Verdict(NamedTuple):
    word: Literal["confirmed", "refuted", "not touched"]
    evidence: str


Judge = Callable[[Recording], Verdict]


class Fact(NamedTuple):
    """`text` is what the reference supposes."""

    text: str
    judge: Judge


def confirmed(evidence: object) -> Verdict:
    return Verdict("confirmed", str(evidence))


def refuted(evidence: object) -> Verdict:
    return Verdict("refuted", str(evidence))


def not_touched(why: object) -> Verdict:
    return Verdict("not touched", str(why))


def decided(holds: bool, evidence: object) -> Verdict:  # noqa: FBT001 - the verdict itself
    return confirmed(evidence) if holds else refuted(evidence)


def is_failed(exchange: Exchange) -> bool:
    """Whether the service did not answer the question, for a reason that is not in it."""
    return exchange.status in {None, TIMED_OUT, TOO_MANY} or exchange.status >= SERVER_ERROR


def of_answer(label: str, judge: Callable[[Exchange], Verdict]) -> Judge:
    """Judge the answer to a probe, if there is one."""

    def judged(recording: Recording) -> Verdict:
        asked = recording.labelled(label)
        if not asked:
            return not_touched("not asked")
        if is_failed(asked[-1]) or asked[-1].status in NOT_HEARD:
            return not_touched(f"no answer: {asked[-1]}")
        return judge(asked[-1])

    return judged


def games_of(exchange: Exchange) -> list[dict[str, Any]]:
    """The rows of a GetOwnedGames answer; none if it is something else."""
    match exchange.body:
        case {"response": {"games": list(games)}}:
            return [game for game in games if isinstance(game, dict)]
    return []


def rows_of(exchange: Exchange) -> list[Any]:
    """The rows of an IGDB answer; none if it is something else."""
    return exchange.body if exchange.status == OK and isinstance(exchange.body, list) else []


def owned(recording: Recording) -> list[dict[str, Any]]:
    """The library, from whichever answer held it."""
    return max((games_of(exchange) for exchange in recording.to("GetOwnedGames")), key=len, default=[])


def unused_id(recording: Recording) -> Verdict:
    profile, games = recording.labelled("profile of an unused id"), recording.labelled("games of an unused id")
    if not profile or not games or profile[-1].body != {"response": {"players": []}}:
        return not_touched(f"{UNUSED_ID} may be somebody's: {profile[-1] if profile else 'not asked'}")
    if is_failed(games[-1]):
        return not_touched(games[-1])
    return decided(games[-1].body == {"response": {}}, f"no profile; games: {games[-1]}")


def deck_is_linux(recording: Recording) -> Verdict:
    minutes = [
        (row.get("playtime_deck_forever") or 0, row.get("playtime_linux_forever") or 0) for row in owned(recording)
    ]
    on_deck = [(deck, linux) for deck, linux in minutes if deck]
    if not on_deck:
        return not_touched("nothing of this library was played on a Deck")
    counted = sum(linux >= deck for deck, linux in on_deck)
    return decided(counted == len(on_deck), f"{counted} of {len(on_deck)} apps have as many minutes on Linux")


def descriptors(recording: Recording) -> Verdict:
    seen = Counter(number for row in owned(recording) for number in row.get("content_descriptorids", []))
    if set(seen) - {1, 2, 3, 4, 5}:
        return refuted(f"times seen: {dict(seen)}")
    return not_touched(f"an answer does not say what they mean; times seen: {dict(seen)}")


def filtered(recording: Recording) -> Verdict:
    asked, library = recording.labelled("appids_filter"), len(owned(recording))
    if not asked or is_failed(asked[-1]) or asked[-1].status in NOT_HEARD or library <= 1:
        return not_touched(f"a library of {library} games")
    rows = len(games_of(asked[-1]))
    return decided(rows == 1, f"one appid asked for, {rows} of {library} rows")


def family(recording: Recording) -> Verdict:
    with_family, without = recording.labelled("family licences"), recording.labelled("all games")
    if not with_family or not without:
        return not_touched("not asked")
    if is_failed(with_family[-1]):
        return not_touched(with_family[-1])
    if with_family[-1].status != OK:
        return refuted(with_family[-1])
    flagged = [row for row in games_of(with_family[-1]) if row.get("family_shared")]
    rows = f"{len(games_of(with_family[-1]))} rows with it, {len(games_of(without[-1]))} without"
    return confirmed(f"{len(flagged)} flagged; {rows}") if flagged else not_touched(f"none flagged; {rows}")


def retry_after(recording: Recording) -> Verdict:
    refusals = [exchange for exchange in of_steam(recording) if exchange.status == TOO_MANY]
    if not refusals:
        return not_touched("Steam sent no 429")
    sent = [exchange.headers["Retry-After"] for exchange in refusals if "Retry-After" in exchange.headers]
    return decided(bool(sent), f"{len(refusals)} x 429, Retry-After: {', '.join(sent) or 'never'}")


def errors_are_pages(recording: Recording) -> Verdict:
    errors = [exchange for exchange in of_steam(recording) if (exchange.status or 0) >= SERVER_ERROR]
    if not errors:
        return not_touched("Steam sent no 5xx")
    return decided(all(error.text.lstrip().startswith("<") for error in errors), errors[0])


def page_for_json(recording: Recording) -> Verdict:
    pages = [exchange for exchange in of_steam(recording) if exchange.status == OK and exchange.body is None]
    return confirmed(pages[0]) if pages else not_touched("every 200 of Steam was JSON")


def of_steam(recording: Recording) -> Iterator[Exchange]:
    return (exchange for exchange in recording.exchanges if "Service/" in exchange.path or "ISteam" in exchange.path)


def store_item(exchange: Exchange) -> Verdict:
    match exchange.body:
        case {"response": {"store_items": [{"success": 1, **item}]}}:
            return decided({"type", "name", "appid"} <= item.keys(), f"fields: {', '.join(sorted(map(str, item)))}")
    return not_touched(f"the app is hidden: {exchange}")


def two_letters(exchange: Exchange) -> Verdict:
    match exchange.body:
        case {"response": {"success": 1}}:
            return confirmed(exchange)
    return not_touched(f"nobody has that one: {exchange}")


def burst_of_multiqueries(recording: Recording) -> Verdict:
    burst, control = recording.labelled("burst of multiqueries"), recording.labelled("eight at once")
    if not burst or any(exchange.status not in {OK, TOO_MANY} for exchange in burst):
        return not_touched(f"no answer: {statuses(burst)}" if burst else "not asked")
    met = any(exchange.status == TOO_MANY for exchange in burst)
    told = f"{len(burst)} of ten queries at once: {statuses(burst)}; eight plain requests: {statuses(control)}"
    if met:
        return refuted(f"{told}. Set IGDB_MULTIQUERY=off")
    if not any(exchange.status == TOO_MANY for exchange in control):
        return not_touched(f"{told}: no limit was met at all")
    return confirmed(told)


def rows_of_parts(exchange: Exchange) -> list[Any]:
    """The rows of all queries of a multiquery."""
    return [row for part in rows_of(exchange) if isinstance(part, dict) for row in part.get("result") or []]


def search_in_multiquery(recording: Recording) -> Verdict:
    single, inside = recording.labelled("single search"), recording.labelled("search in a multiquery")
    if not single or not inside:
        return not_touched("not asked")
    if not rows_of(single[-1]) or inside[-1].status != OK:
        return not_touched(f"alone: {single[-1]}; inside: {inside[-1]}")
    return decided(not rows_of_parts(inside[-1]), f"{len(rows_of(single[-1]))} games singly; {inside[-1]}")


def key_in_header(recording: Recording) -> Verdict:
    library, without = recording.labelled("all games"), recording.labelled("no key at all")
    if not library or not without:
        return not_touched("not asked")
    evidence = f"with the header: {library[-1].status}; without any key: {without[-1].status}"
    if is_failed(library[-1]) or is_failed(without[-1]):
        return not_touched(evidence)
    return decided(library[-1].status == OK and without[-1].status != OK, evidence)


def key_in_address(recording: Recording) -> Verdict:
    asked = recording.labelled("key in the address")
    if not asked or is_failed(asked[-1]):
        return not_touched(asked[-1] if asked else "not asked")
    return decided(asked[-1].status == OK, f"status {asked[-1].status}")


def statuses(exchanges: list[Exchange]) -> str:
    counted = Counter(exchange.status for exchange in exchanges)
    return ", ".join(f"{number} x {status}" for status, number in counted.most_common())


def full_pages(recording: Recording) -> Verdict:
    pages = [exchange for exchange in recording.to("/games") if "genres.name" in exchange.asked]
    slow = [page for page in pages if page.status is None or page.status == TIMED_OUT or page.status >= SERVER_ERROR]
    if slow:
        return refuted(f"{len(slow)} of {len(pages)} failed, the first after {slow[0].seconds:.1f} s: {slow[0]}")
    largest = max(pages, key=lambda page: len(rows_of(page)), default=None)
    if largest is None or len(rows_of(largest)) < PAGE_SIZE:
        return not_touched(f"the largest page had {len(rows_of(largest)) if largest else 0} rows")
    slowest = max(page.seconds for page in pages)
    return confirmed(f"{PAGE_SIZE} rows, {len(largest.text):,} bytes; the slowest of {len(pages)} took {slowest:.2f} s")


def same_element(recording: Recording) -> Verdict:
    asked = recording.labelled("same element")
    if not asked or asked[-1].status != OK:
        return not_touched(asked[-1] if asked else "no game of this library has a row of GOG with another uid")
    found = "found" if rows_of(asked[-1]) else "not found"
    return decided(not rows_of(asked[-1]), f"a game is {found} by Steam's uid with GOG's source: {asked[-1].asked}")


def genre_ids(exchange: Exchange) -> Verdict:
    seen = {row.get("id"): row.get("name") for row in rows_of(exchange)}
    other = {
        number: seen.get(number) for number in GENRES.keys() | seen.keys() if seen.get(number) != GENRES.get(number)
    }
    return decided(not other, f"{len(seen)} genres" + (f"; otherwise here: {other}" if other else ""))


def is_answered(status: int) -> Callable[[Exchange], Verdict]:
    return lambda exchange: decided(exchange.status == status, exchange)


def has_rows(exchange: Exchange) -> Verdict:
    return decided(bool(rows_of(exchange)), exchange)


def is_xbox(exchange: Exchange) -> Verdict:
    return decided("Xbox Series X|S" in exchange.text, exchange)


def of_appdetails(_recording: Recording) -> Verdict:
    return not_touched("never asked: that takes 200 requests within five minutes")


FACTS = (
    Fact("GetOwnedGames answers 400 to a malformed steamid", of_answer("malformed steamid", is_answered(BAD_REQUEST))),
    Fact("an id without an account has an empty response, like a private library", unused_id),
    Fact("minutes on a Deck also count as minutes on Linux", deck_is_linux),
    Fact("content_descriptorids are 1 to 5, and mean what is supposed", descriptors),
    Fact("appids_filter[0] restricts GetOwnedGames to that app", filtered),
    Fact("include_family_licenses adds borrowed games, flagged family_shared", family),
    Fact("a 429 of Steam carries Retry-After", retry_after),
    Fact("a 5xx of Steam is an HTML page", errors_are_pages),
    Fact("an overloaded Steam sends a page with status 200", page_for_json),
    Fact("there are vanity names of two letters", of_answer("vanity name of two", two_letters)),
    Fact("GetItems gives type, name and appid without any data_request", of_answer("store item", store_item)),
    Fact("appdetails answers `null` when it is asked too often", of_appdetails),
    Fact("an unquoted uid is understood", of_answer("unquoted uid", has_rows)),
    Fact("Steam takes the key in the header x-webapi-key", key_in_header),
    Fact("Steam takes the key in the address", key_in_address),
    Fact("a search of games alone finds games", of_answer("single search", has_rows)),
    Fact("a search in a multiquery finds nothing", search_in_multiquery),
    Fact("a burst of multiqueries meets no 429", burst_of_multiqueries),
    Fact(
        "one bad query of a multiquery fails all", of_answer("a bad query beside a good one", is_answered(BAD_REQUEST))
    ),
    Fact("500 games with all that we expand do not time out", full_pages),
    Fact("a request of over 32,000 bytes is refused with 413", of_answer("33 KB", is_answered(TOO_LARGE))),
    Fact("conditions on external_games.… of games hold for the same element", same_element),
    Fact("the 23 genres have the ids of general knowledge", of_answer("genres", genre_ids)),
    Fact("platform 169 is Xbox Series X|S", of_answer("platform 169", is_xbox)),
)
