"""A mutation fuzzer for codecs: seeded, time-boxed, with bounds on time and memory.

    python -m tools.fuzzing tests/fuzz/fuzz_NAME.py [--seconds S] [--seed N] [--replay FILE]

A target is a module tests/fuzz/fuzz_NAME.py with

    def one_input(data: bytes) -> None: ...   # raises only if the code under test is wrong
    SEEDS: list[bytes]                        # well-formed inputs to start from
    TOKENS: list[bytes] = [...]               # optional: words of its language
    LONGEST: int = ...                        # optional: octets; how far inputs may grow

An input that raises, or that takes more CPU time than GRACE + PER_OCTET times its length (a
parser is linear), is reduced and saved below build/fuzz/. Each target runs in a process of its
own under a memory limit, so that a crash of the interpreter or a hang costs that target only.
The same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import hashlib
import json
import mmap
import os
import random
import resource
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.tree import ROOT

GRACE = 0.5  # seconds of CPU for any input, however short
PER_OCTET = 10e-6  # seconds of CPU more for each octet
MEMORY = 2 << 30  # octets of address space for a target
LONGEST = 64 << 10  # octets of an input, unless the target says otherwise
ENOUGH = 5  # findings after which a target stops
REDUCING = 5.0  # seconds to make one finding smaller
HANG = 30.0  # seconds past its time after which a target's process is killed

SAVED = ROOT / "build" / "fuzz"

COMMON_TOKENS: tuple[bytes, ...] = (
    *(b"\r\n", b"\n", b"\r", b"\0", b"\r\n.\r\n", b"\r\n ", b"\t", b" ", b'"', b"\\", b"(", b")"),
    *(b"<", b">", b"[", b"]", b"{", b"}", b"{9}\r\n", b"{4294967296+}\r\n", b"~{1}\r\n"),
    *(b":", b";", b",", b"=", b"@", b"*", b"%", b"%00", b"=?utf-8?q?=00?=", b"=?x?b?????="),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xae", b"\xef\xbb\xbf"),
    *(b"0", b"-1", b"00", b"65536", b"2147483648", b"4294967295", b"18446744073709551616", b"1e9"),
)


@dataclass(frozen=True)
class Target:
    """What is fuzzed. `tokens` includes the common ones."""

    name: str
    one_input: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    longest: int


@dataclass(frozen=True)
class Crash:
    """A finding: what happened in a line, and the file that holds the input."""

    what: str
    saved: str


@dataclass(frozen=True)
class Outcome:
    """What the fuzzing of one target gave. `worst` is the largest share of the time bound used."""

    name: str
    runs: int
    octets: int
    seconds: float
    worst: float
    crashes: tuple[Crash, ...]


class Mutator:
    """Makes inputs from seeds: each a seed with one to eight changes, none over `longest`."""

    def __init__(self, target: Target, rng: random.Random) -> None:
        self._seeds = list(target.seeds) or [b""]
        self._tokens = list(target.tokens)
        self._longest = target.longest
        self._rng = rng
        self._changes = (
            *(self._flip, self._overwrite, self._delete, self._insert, self._insert, self._copy),
            *(self._splice, self._truncate, self._repeat, self._number),
        )

    def next(self) -> bytes:
        """One more input."""
        rng = self._rng
        data = bytearray(rng.choice(self._seeds))
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6, 8))):
            rng.choice(self._changes)(data)
        if rng.random() < 0.005:  # what is quadratic shows in long inputs only
            data *= max(1, self._longest // max(1, len(data)))
        return bytes(data[: self._longest])

    def _span(self, data: bytearray, most: int) -> tuple[int, int]:
        start = self._rng.randrange(len(data) + 1)
        return start, min(len(data), start + self._rng.randint(1, most))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _overwrite(self, data: bytearray) -> None:
        if data:
            data[self._rng.randrange(len(data))] = self._rng.randrange(256)

    def _delete(self, data: bytearray) -> None:
        start, end = self._span(data, 64)
        del data[start:end]

    def _insert(self, data: bytearray) -> None:
        start = self._rng.randrange(len(data) + 1)
        data[start:start] = self._rng.choice(self._tokens)

    def _copy(self, data: bytearray) -> None:
        start, end = self._span(data, 256)
        to = self._rng.randrange(len(data) + 1)
        data[to:to] = data[start:end]

    def _splice(self, data: bytearray) -> None:
        other = self._rng.choice(self._seeds)
        start = self._rng.randrange(len(data) + 1)
        data[start:] = other[self._rng.randrange(len(other) + 1) :]

    def _truncate(self, data: bytearray) -> None:
        del data[self._rng.randrange(len(data) + 1) :]

    def _repeat(self, data: bytearray) -> None:
        """The same few octets many times: depth, counts, long runs."""
        start, end = self._span(data, 16)
        chunk = bytes(data[start:end]) or self._rng.choice(self._tokens)
        room = max(0, self._longest - len(data)) // len(chunk)
        data[start:start] = chunk * min(room, self._rng.choice((2, 16, 128, 1024, 8192)))

    def _number(self, data: bytearray) -> None:
        """Another number where one stands."""
        digits = [n for n, octet in enumerate(data[:4096]) if 0x30 <= octet <= 0x39]
        if digits:
            at = self._rng.choice(digits)
            data[at : at + 1] = b"%d" % self._rng.choice((0, 1, 255, 256, 1 << 31, 1 << 63, 10**30))


def load(path: Path) -> Target:
    """Import a target from its file. Raises TypeError when something is missing from it."""
    names = runpy.run_path(str(path), run_name=path.stem)
    if not callable(names.get("one_input")) or not names.get("SEEDS"):
        raise TypeError(f"{path.name} needs one_input and SEEDS")
    tokens = (*COMMON_TOKENS, *names.get("TOKENS", ()))
    longest = names.get("LONGEST", LONGEST)
    name = path.stem.removeprefix("fuzz_")
    return Target(name, names["one_input"], names["SEEDS"], tokens, longest)


def bound(octets: int) -> float:
    """Seconds of CPU that an input of this length may take."""
    return GRACE + PER_OCTET * octets


def trial(target: Target, data: bytes) -> tuple[float, str]:
    """Run one input: CPU seconds it took, and what was wrong, "" if nothing."""
    began = time.process_time()
    try:
        target.one_input(data)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return time.process_time() - began, what
    return time.process_time() - began, ""


def judge(target: Target, data: bytes) -> tuple[float, str]:
    """As `trial`, but an input over its time is wrong, if it is so three times running."""
    seconds, what = trial(target, data)
    limit = bound(len(data))
    for _ in range(2):
        if what or seconds <= limit:
            break
        again, what = trial(target, data)
        seconds = min(seconds, again)
    if not what and seconds > limit:
        what = "TooSlow"
    return seconds, what


def reduce(target: Target, data: bytes, what: str, seconds: float = REDUCING) -> bytes:
    """A shorter input that goes wrong in the same way, found in at most about `seconds`."""
    end = time.monotonic() + seconds
    step = len(data) // 2
    while step:
        start = 0
        while start < len(data) and time.monotonic() < end:
            shorter = data[:start] + data[start + step :]
            if judge(target, shorter)[1] == what:
                data = shorter
            else:
                start += step
        step //= 2
    return data


def fuzz(
    target: Target,
    seconds: float,
    seed: int,
    folder: Path = SAVED,
    current: Callable[[bytes], None] = lambda data: None,
) -> Outcome:
    """Try inputs for about `seconds`, the seeds first; each is told to `current` beforehand.

    What is found is saved below `folder`.
    """
    mutator = Mutator(target, random.Random(seed))  # noqa: S311 - repeatable, by design
    began = time.monotonic()
    runs = octets = 0
    worst = 0.0
    found: dict[str, Crash] = {}
    waiting = list(reversed(target.seeds))
    while waiting or (time.monotonic() - began < seconds and len(found) < ENOUGH):
        data = waiting.pop() if waiting else mutator.next()
        current(data)
        took, what = judge(target, data)
        runs += 1
        octets += len(data)
        worst = max(worst, took / bound(len(data)))
        if what and what not in found:
            reduced = reduce(target, data, what)
            found[what] = Crash(
                f"{what}, {len(reduced)} octets", save(folder, target.name, reduced)
            )
    return Outcome(
        target.name, runs, octets, time.monotonic() - began, worst, tuple(found.values())
    )


def save(folder: Path, name: str, data: bytes) -> str:
    """Keep an input; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def fuzz_apart(path: Path, seconds: float, seed: int, folder: Path = SAVED) -> Outcome:
    """Fuzz the target at `path` in a process of its own; how that ends is part of the outcome."""
    command = [sys.executable, "-m", "tools.fuzzing", str(path), "--json"]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    command += ["--save", str(folder)]
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            out, err = child.communicate(timeout=seconds + ENOUGH * REDUCING + HANG)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # faulthandler then says where it stood
            out, err = child.communicate()
    if child.returncode == 0:
        return _from_json(out)
    sys.stderr.write(err)
    name = path.stem.removeprefix("fuzz_")
    what = "the interpreter died or hung" if child.returncode < 0 else "the target did not start"
    crash = Crash(f"{what} (exit {child.returncode})", _last_input(folder, name, child.pid))
    return Outcome(name, 0, 0, time.monotonic() - began, 0.0, (crash,))


def _from_json(text: str) -> Outcome:
    fields = json.loads(text.splitlines()[-1])
    fields["crashes"] = tuple(Crash(**c) for c in fields["crashes"])
    return Outcome(**fields)


class _Current:
    """The input being tried, in a mapped file that outlives the process."""

    def __init__(self, folder: Path, name: str, longest: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = _current_path(folder, name, os.getpid())
        with self._path.open("w+b") as file:
            file.truncate(8 + longest)
            self._map = mmap.mmap(file.fileno(), 8 + longest)

    def __call__(self, data: bytes) -> None:
        self._map[:8] = len(data).to_bytes(8, "big")
        self._map[8 : 8 + len(data)] = data

    def forget(self) -> None:
        """Everything went well: the file is not needed."""
        self._path.unlink()


def _current_path(folder: Path, name: str, pid: int) -> Path:
    """Of one process: another may try the same target."""
    return folder / f"{name}.{pid}.current"


def _last_input(folder: Path, name: str, pid: int) -> str:
    """Save what a dead process was trying; its path, or "nothing" if it tried nothing."""
    path = _current_path(folder, name, pid)
    if not path.exists():
        return "nothing"
    content = path.read_bytes()
    path.unlink()
    return save(folder, name, content[8 : 8 + int.from_bytes(content[:8], "big")])


def main(arguments: list[str] | None = None) -> int:
    """Fuzz one target here, or replay one input; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzzing", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="run this one input and let it raise")
    parser.add_argument("--save", type=Path, default=SAVED, help="folder for what is found")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON, exit 0")
    options = parser.parse_args(arguments)
    target = load(options.target)
    if options.replay:
        target.one_input(options.replay.read_bytes())
        return 0
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    longest = max(target.longest, *(len(s) for s in target.seeds))
    current = _Current(options.save, target.name, longest)
    outcome = fuzz(target, options.seconds, options.seed, options.save, current)
    current.forget()
    if options.json:
        print(json.dumps(dataclasses.asdict(outcome)))
        return 0
    print(f"{outcome.name}: {outcome.runs} inputs, worst {outcome.worst:.1%} of the time bound")
    for crash in outcome.crashes:
        print(f"  {crash.what}: {crash.saved}", file=sys.stderr)
    return 1 if outcome.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
