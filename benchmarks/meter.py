"""Seconds and anonymous memory of this process."""

import threading
import time
from pathlib import Path
from types import TracebackType

STATUS = Path("/proc/self/status")


def anonymous_mb() -> float:
    """Memory of this process that no file stands behind, in MB (10**6 bytes): what it takes from others.

    Pages of a memory-mapped file can be dropped and read again at any time, so they don't count.
    """
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"expected a line RssAnon in {STATUS}, got none; memory is measured on Linux only")


class Peak:
    """The largest anonymous memory seen while the block ran, looked at every 20 ms."""

    def __enter__(self) -> "Peak":
        self.mb = anonymous_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.mb = max(self.mb, anonymous_mb())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()


class Laps:
    """Seconds by name, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a name."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def skip(self) -> None:
        """Leave the time since the last lap out, because no reader would spend it."""
        self._last = time.perf_counter()
