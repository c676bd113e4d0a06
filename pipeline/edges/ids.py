"""Ids for new rows, which sort by time as cuids do."""

import secrets
import time

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def id_prefix() -> str:
    """As cuids begin: `c` and the time in eight digits of base 36; then ten random digits, this load's own."""
    now = time.time_ns() // 1_000_000
    digits = [DIGITS[now // 36**place % 36] for place in reversed(range(8))]
    return "".join(["c", *digits, *(secrets.choice(DIGITS) for _ in range(10))])
