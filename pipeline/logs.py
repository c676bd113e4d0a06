"""The log of this program: one structlog line per event, on standard error."""

import logging
import sys

import structlog

from pipeline.settings import Settings

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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def quiet_library_logs() -> None:
    """Let HTTP and AWS libraries log warnings only: their debug lines quote headers, which hold keys and tokens."""
    for name in LIBRARIES:
        log = logging.getLogger(name)
        log.setLevel(max(log.getEffectiveLevel(), logging.WARNING))
