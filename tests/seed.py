"""The seed by which `make test` draws crash points: the day, or that of another day to repeat its run."""

import os
from datetime import UTC, datetime

SEED = os.environ.get("CRASH_SEED") or datetime.now(UTC).date().isoformat()
