"""What a hostile or broken world may send, made of a random number generator, which Hypothesis may hold."""

import gzip
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import httpx

TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "..",
        "../..",
        "%2e%2e%2f",
        "\\",
        "/",
        "'",
        '"',
        '"; DROP',
        "=1+1",
        "\ufeff",
        "\r",
        "\r\n",
        "\n",
    ),
    *(
        "\u2028",
        "\u202e",
        "\ud800",
        "\udfff\ud800",
        "\N{FULLWIDTH FULL STOP}" * 2,
        "\N{CYRILLIC SMALL LETTER A}",
        "\U0001f3ae",
    ),
    *(
        "NaN",
        "inf",
        "-inf",
        "1e999",
        "null",
        "true",
        "0x1",
        "9" * 30,
        "-1",
        "0",
        "2147483648",
        "\u0661\u0662",
        "1_000",
        " 7 ",
    ),
    *("{}", "[]", "${HOME}", "$(id)", "`id`", "%s%n", "{0.__class__}", "<html>", "A" * 5_000, "\u0130", "\ufb01"),
)
SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 620, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e308, -0.0),
    *(float("inf"), float("nan"), 1072915200, 253402300800, "620", "x", ""),
)
TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00")
WORDS = (
    "id",
    "name",
    "appid",
    "game",
    "uid",
    "slug",
    "response",
    "games",
    "result",
    "count",
    "success",
    "type",
    "title",
)
BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\x80",
    b"=",
    b";",
    b"\t",
    b"," * 3_000,
    b'"\n"' + b"," * 3_000,
)
DEEP = (
    b"[" * 50_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"[" * 900 + b"]" * 900,
    b'{"response":' * 40 + b"1" + b"}" * 40,
)
WIDE = tuple(b'{"response":{"games":[' + row * 30_000 + b"1]}}" for row in (b"{},", b"[],", b"1,"))
TYPES = (
    "application/json",
    "text/html; charset=hex",
    "text/plain; charset=utf-7",
    "image/png",
    "",
    "application/json; charset=\0",
)
STATUSES = (200,) * 12 + (201, 204, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503, 599)


class Kind(NamedTuple):
    """One kind of input: how one is made, and what takes it."""

    make: Callable[[Random], Any]
    take: Callable[[Any], object]


def text(random: Random, seeds: Sequence[str] = ()) -> str:
    """A text: an odd one, or one of the seeds with something odd in it, or any characters."""
    kind = random.randrange(4)
    if kind == 0 or not seeds:
        return random.choice(TEXTS) + random.choice(TEXTS)
    if kind == 1:
        return "".join(
            chr(random.choice((random.randrange(128), random.randrange(0x110000)))) for _ in range(random.randrange(12))
        )
    seed = random.choice(seeds)
    start = random.randrange(len(seed) + 1)
    return seed[:start] + random.choice(TEXTS) + seed[start + random.randrange(3) :]


def changed(random: Random, seed: bytes) -> bytes:
    """Bytes with a few of them changed: cut, doubled, flipped, or with odd ones between."""
    body = bytearray(seed)
    for _ in range(random.randrange(4)):
        start = random.randrange(len(body) + 1)
        end = min(len(body), start + random.randrange(1, 40))
        kind = random.randrange(5)
        if kind == 0:
            del body[start:end]
        elif kind == 1:
            body[start:start] = body[start:end] * random.randrange(1, 4)
        elif kind == 2:
            body[start:start] = random.choice(BYTES)
        elif kind == 3:
            body[start:end] = bytes(random.randrange(256) for _ in range(end - start))
        else:
            del body[start:]
    return bytes(body)


def bytes_like(*seeds: bytes) -> Callable[[Random], bytes]:
    """Bytes like one of the seeds, in other encodings too, or any."""

    def make(random: Random) -> bytes:
        kind = random.randrange(12)
        if kind == 0:
            return random.choice(BYTES) * random.randrange(50) + random.randbytes(random.randrange(60))
        body = changed(random, random.choice(seeds))
        return body.decode(errors="replace").encode(random.choice(("utf-16", "utf-8-sig"))) if kind == 1 else body

    return make


def odd_value(random: Random, seed: Any) -> Any:
    """JSON like the seed, with one other value, or one that is gone or twice."""
    if not seed or not isinstance(seed, dict | list) or random.random() < 0.05:
        return random.choice((*SCALARS, *TIMES, text(random)))
    at = random.choice(list(seed) if isinstance(seed, dict) else range(len(seed)))
    if random.random() < 0.1:
        return {name: seed[name] for name in seed if name != at} if isinstance(seed, dict) else [*seed, seed[at]]
    copy = seed.copy()
    copy[at] = odd_value(random, seed[at])
    return copy


def value(random: Random, depth: int = 0) -> Any:
    """Any JSON."""
    kind = random.randrange(8 if depth < 4 else 6)
    if kind < 4:
        return random.choice(SCALARS)
    if kind < 6:
        return text(random)
    parts = [value(random, depth + 1) for _ in range(random.randrange(4))]
    return parts if kind == 6 else {random.choice(WORDS): part for part in parts}


def altered(random: Random, seed: Any) -> Any:
    """JSON like the seed, with other values here and there."""
    if random.random() < 0.08:
        return value(random)
    if isinstance(seed, dict):
        return {name: altered(random, part) for name, part in seed.items() if random.random() > 0.03}
    if isinstance(seed, list):
        return [altered(random, part) for part in seed for _ in range(random.choice((1, 1, 1, 0, 2)))]
    return seed


def answer(random: Random, seed: Any) -> httpx.Response:
    """An answer of a server: mostly JSON like the seed, at times anything."""
    kind = random.randrange(10)
    body = json.dumps(altered(random, seed)).encode()
    if kind == 0:
        body = changed(random, body)
    elif kind == 1:
        body = random.choice(
            (*DEEP, *WIDE, b"", b"<html><h1>Busy</h1></html>", b"null", b"9" * 9_000, random.choice(BYTES))
        )
    headers = {"Content-Type": random.choice(TYPES), "Retry-After": random.choice(("0", "9" * 400, "soon", "\x01"))}
    if kind == 2:
        headers["Content-Encoding"] = random.choice(("gzip", "br", "gzip, gzip", "identity", "\0"))
        body = gzip.compress(body) if random.random() < 0.5 else body
    return httpx.Response(random.choice(STATUSES), headers=headers, stream=httpx.ByteStream(body))
