"""The log of this program: one structlog line per event, on standard error."""

import logging
import re
import sys

import structlog

from pipeline.settings import Settings

_ACCOUNT = re.compile(r"(?<!\d)7656119\d{10}(?!\d)")
"""A SteamID64 of an individual account in the public universe, the only ones that own games."""

LIBRARIES = ("botocore", "httpcore", "httpx", "urllib3")


def configure_logging(settings: Settings, default_format: str = "json") -> None:
    """Set up structlog by the settings: a line per event on standard error, JSON or columns (`console`)."""
    log_format = settings.log_format or default_format
    renderer = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_accounts,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _without_accounts(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Replace SteamID64s in texts: lines of the log name a user by SavePoint's id alone."""
    return {name: _ACCOUNT.sub("(SteamID64)", text) if isinstance(text, str) else text for name, text in event.items()}


def quiet_library_logs() -> None:
    """Let HTTP and AWS libraries log warnings only: their debug lines quote headers, which hold keys and tokens."""
    for name in LIBRARIES:
        log = logging.getLogger(name)
        log.setLevel(max(log.getEffectiveLevel(), logging.WARNING))
