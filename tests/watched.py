"""A store whose user may be killed at any call, and in the middle of a write."""

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import Retryable
from pipeline.storage.store import ReadLimits, Store

SOME_BYTES = 20


@dataclass
class Watched:
    """A store that notes every call, and fails before or after the one that is told, or kills the process in it."""

    store: Store
    fails_at: int = 0
    is_carried_out: bool = False
    is_kill: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def limits(self) -> ReadLimits:
        return self.store.limits

    def _call(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        self.calls.append((name, key))
        is_failing = len(self.calls) == self.fails_at
        if is_failing and self.is_kill:
            if name in ("write", "replace"):
                _die_in_a_write()
                call()
            os.kill(os.getpid(), signal.SIGKILL)
        if is_failing and not self.is_carried_out:
            raise Retryable("store_unavailable", "killed before")
        answer = call()
        if is_failing:
            raise Retryable("store_unavailable", "killed behind")
        return answer

    def called(self, name: str) -> list[str]:
        return [key for called, key in self.calls if called == name]

    def read(self, key: str) -> bytes | None:
        body: bytes | None = self._call("read", key, lambda: self.store.read(key))
        return body

    def write(self, key: str, body: bytes) -> None:
        self._call("write", key, lambda: self.store.write(key, body))

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self.store.delete(key))

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        return bool(self._call("replace", key, lambda: self.store.replace(key, body, etag)))

    def list(self, prefix: str) -> dict[str, str]:
        etags: dict[str, str] = self._call("list", prefix, lambda: self.store.list(prefix))
        return etags

    def locate(self, key: str) -> str:
        return self.store.locate(key)

    def key_of(self, location: str) -> str:
        return self.store.key_of(location)


def _die_in_a_write() -> None:
    """Have the kernel kill this process, if it may, when a file of it grows beyond some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SOME_BYTES, SOME_BYTES))
