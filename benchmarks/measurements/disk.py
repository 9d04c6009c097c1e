"""fdatasync alone: a record of 128 bytes, overwritten in space that is already there, and made durable."""

import os
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.figures import Figures

NAME = "fdatasync alone"
_RECORD = b"r" * 128
_FILE_BYTES = 8 * 1024 * 1024


def measure_disk(seconds: float, figures: Figures, directory: Path) -> None:
    """One round, in a file of its own."""
    file = os.open(directory / "disk", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.posix_fallocate(file, 0, _FILE_BYTES)
        os.fsync(file)
        times_s: list[float] = []
        began_s = perf_counter()
        while (now := perf_counter()) < began_s + seconds:
            os.pwrite(file, _RECORD, (len(times_s) * len(_RECORD)) % _FILE_BYTES)
            os.fdatasync(file)
            times_s.append(perf_counter() - now)
        elapsed_s = perf_counter() - began_s
    finally:
        os.close(file)
    figures.add("fdatasync", NAME, {}, rate_per_s=len(times_s) / elapsed_s, p50_ms=1000 * median(times_s))
