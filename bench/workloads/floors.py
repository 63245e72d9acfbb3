"""fsync: how many durable 10 KB records a second the disc takes."""

from __future__ import annotations

import threading
import time
from array import array

from bench.model import Measure, Options, Sample, Samples, Target, percentile
from bench.peers.disc import Disc, GroupCommit

_RECORD = bytes(10_240)
_THREADS = (1, 10, 50)


class Fsync:
    """Threads append to one file and wait for the sync that they share."""

    name = "fsync"
    targets = (Disc,)
    measures = tuple(
        Measure(f"fsync-{threads}", f"10 KB append + fdatasync, {threads} waiting", "/s", True)
        for threads in _THREADS
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Nothing to fill."""

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of threads."""
        if not isinstance(target, Disc):
            raise TypeError("only the disc")
        seconds = options.seconds / 2
        return {f"fsync-{threads}": _run(target, threads, seconds) for threads in _THREADS}


def _run(disc: Disc, threads: int, seconds: float) -> Sample:
    path = disc.directory / f"append-{threads}"
    commit = GroupCommit(path)
    until = time.monotonic() + seconds
    latencies = [array("d") for _ in range(threads)]

    def work(mine: array[float]) -> None:
        while (now := time.monotonic()) < until:
            commit.append(_RECORD)
            mine.append(time.monotonic() - now)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in latencies]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    commit.close()
    path.unlink()
    ordered = sorted(value for mine in latencies for value in mine)
    return Sample(
        len(ordered) / seconds,
        {"p50 ms": percentile(ordered, 0.5) * 1e3, "p99 ms": percentile(ordered, 0.99) * 1e3},
    )
