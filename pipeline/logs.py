"""How what happens is told: one line an event."""

import logging
import sys

import structlog

from pipeline.settings import Settings

_LIBRARIES = ("botocore", "httpcore", "httpx", "urllib3")


def quiet_library_logs() -> None:
    """Have the libraries log warnings only: below, they quote headers and answers, with keys and tokens in them."""
    for name in _LIBRARIES:
        log = logging.getLogger(name)
        log.setLevel(max(log.getEffectiveLevel(), logging.WARNING))


def configure_logging(settings: Settings, default_format: str = "json") -> None:
    """One line an event on stderr: JSON for machines, columns for people."""
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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
