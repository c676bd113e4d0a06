"""A store in memory."""

from dataclasses import dataclass, field

from pipeline.storage.store import DEFAULT_LIMITS, ReadLimits


@dataclass
class Memory:
    """A store in memory; what is put there behind its back may be hostile."""

    objects: dict[str, bytes] = field(default_factory=dict)
    limits: ReadLimits = DEFAULT_LIMITS

    def read(self, key: str) -> bytes | None:
        body = self.objects.get(key)
        if body is None:
            return None
        self.limits.check_size(key, len(body))
        return self.limits.checked(key, body)

    def write(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        is_same = self.list(key).get(key) == etag
        if is_same:
            self.write(key, body)
        return is_same

    def list(self, prefix: str) -> dict[str, str]:
        return {key: str(hash(body)) for key, body in sorted(self.objects.items()) if key.startswith(prefix)}

    def locate(self, key: str) -> str:
        return f"/store/{key}"

    def key_of(self, location: str) -> str:
        return location.removeprefix("/store/")
