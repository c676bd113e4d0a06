"""The addresses of servers, and to which of them keys may travel."""

import re
from ipaddress import ip_address

_NAME = r"(?!xn--)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_NAME}(\.{_NAME})*|\[[0-9a-f:.]+\])(:(?P<port>\d{{1,5}}))?(/[!-~]{{0,2000}})?",
    re.IGNORECASE | re.ASCII,
)
"""What all libraries that use an address read alike; they have errors of their own for all else that looks like one."""

LONGEST_HOST = 253
LAST_PORT = 2**16 - 1


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(url: str) -> bool:
    """Whether it is http:// or https://, a host, and perhaps a port and a path."""
    found = _ADDRESS.fullmatch(url)
    return found is not None and _is_host(found["host"]) and int(found["port"] or 0) <= LAST_PORT


def is_plain(url: str) -> bool:
    """Whether what is sent to an address travels in the clear."""
    return url.lower().startswith("http://")


def private(url: str) -> str:
    """The address, if keys may travel there: in the clear to this machine only; else raises ValueError."""
    found = _ADDRESS.fullmatch(url)
    if not (found and is_address(url)) or (is_plain(url) and not is_here(found["host"].strip("[]"))):
        raise ValueError("give an address that begins with https:// (http:// only leads to this machine, 127.0.0.1)")
    return url


def _is_host(host: str) -> bool:
    """A name that ends in a number is read as an IPv4 address, by some in octal or with parts left out."""
    if not host.startswith("[") and not host.rpartition(".")[2].isdigit():
        return len(host) <= LONGEST_HOST
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
