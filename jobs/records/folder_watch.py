"""Whether a folder has to be listed again."""

from __future__ import annotations

import time

_SETTLED_S = 60.0
_LOOKED_S = 2.0


class FolderWatch:
    """A folder's time of change tells, once it is old enough that a further change would have shown."""

    def __init__(self) -> None:
        self._changed: int | None = None
        self._settled = False
        self._seen_at = 0.0

    def is_as_listed(self, changed: int) -> bool:
        """Whether a folder that was last changed at `changed` (ns) is as it was when this was last asked; if not, the
        caller lists it now."""
        now = time.monotonic()
        if changed != self._changed:
            self._seen_at = now
        elif self._settled:
            return True
        self._settled = time.time() - changed / 1e9 > _SETTLED_S or now - self._seen_at > _LOOKED_S
        self._changed = changed
        return False

    def forget(self) -> None:
        """The listing failed."""
        self._changed = None
