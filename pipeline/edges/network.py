"""How requests leave this machine: by which proxy, and without a word about them in the log."""

import logging
import re
from urllib.request import getproxies, proxy_bypass

from pipeline.addresses import is_address
from pipeline.errors import Refused

_LIBRARIES = ("botocore", "httpcore", "httpx", "urllib3")
_USER = re.compile(r"(?<=://)[^/?#@\s]*@")


def hush() -> None:
    """Have the libraries log warnings only: below, they quote headers and answers, with keys and tokens in them."""
    for name in _LIBRARIES:
        log = logging.getLogger(name)
        log.setLevel(max(log.getEffectiveLevel(), logging.WARNING))


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a server; none for plain http, which leads to this machine only.

    Raises:
        Refused: `configuration`, for one that cannot be used; it is not quoted, as it may hold a password.
    """
    if scheme != "https":
        return None
    named = getproxies()
    proxy = named.get("https") or named.get("all")
    if not proxy or proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not (proxy.isascii() and is_address(_USER.sub("", proxy, count=1))):
        raise Refused(
            "configuration", "HTTPS_PROXY, or ALL_PROXY, names no proxy that can be used: give http://host:port."
        )
    return proxy
