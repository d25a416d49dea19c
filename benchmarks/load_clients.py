"""HTTP load by programs that are not Python, so that the client is not the bottleneck: wrk and hey.

Both are Debian packages: ``apt-get install wrk hey``.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from driftline.errors import DriftlineError

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What a client saw; latencies in milliseconds."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def wrk(url: str, key: str, bodies: list[str], folder: Path, concurrency: int, seconds: int) -> Load:
    """As many requests as ``concurrency`` connections can make, one after another, with random bodies.

    Raises
    ------
    DriftlineError
        If wrk is not installed, or says what cannot be read.
    """
    listed = ", ".join(json.dumps(body) for body in bodies)
    bodies_in_turn = (
        f"local bodies, at = {{{listed}}}, 0\nbody = function() at = at % #bodies + 1 return bodies[at] end\n"
    )
    return _wrk(url, key, bodies_in_turn, folder, concurrency, seconds)


def wrk_events(url: str, key: str, users: int, items: list[str], folder: Path, concurrency: int, seconds: int) -> Load:
    """The same with batches of 100 new events of ``users`` users in turn.

    Raises
    ------
    DriftlineError
        As :func:`wrk`.
    """
    event = (
        '{"event_id":"load-%d-%d","user_id":"writer-%d","item_id":%s,"type":"view","timestamp":%d}'  # id, user, item
    )
    batches = (
        f"local items, start, at = {{{', '.join(json.dumps(json.dumps(item)) for item in items)}}}, os.time(), 0\n"
        "body = function()\n  local rows = {}\n  for n = 1, 100 do\n    at = at + 1\n"
        f"    rows[n] = string.format('{event}', start, at, at % {users}, items[at * 7919 % #items + 1], start + at)\n"
        '  end\n  return "[" .. table.concat(rows, ",") .. "]"\nend\n'
    )
    return _wrk(url, key, batches, folder, concurrency, seconds)


def _wrk(url: str, key: str, body: str, folder: Path, concurrency: int, seconds: int) -> Load:
    """``body`` is Lua that defines a function of this name."""
    script = folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["Authorization"] = "Bearer {key}"\n'
        f"{body}request = function() return wrk.format(nil, nil, nil, body()) end\n"
    )
    said = _run(["wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", "--latency", "-s", str(script), url])
    shares = {int(share): _ms(value) for share, value in re.findall(r"^\s+(50|99)%\s+(\S+)\s*$", said, re.MULTILINE)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if rate is None or set(shares) != {50, 99}:
        raise DriftlineError(f"wrk said what cannot be read:\n{said}")
    return Load(float(rate[1]), shares[50], shares[99], int(bad[1]) if bad else 0)


def hey(url: str, key: str, body: str, per_s: float, seconds: int, connections: int = 8) -> Load:
    """A steady rate of requests.

    Raises
    ------
    DriftlineError
        As :func:`wrk`.
    """
    pace = ["-z", f"{seconds}s", "-c", str(connections), "-q", f"{per_s / connections:.4f}"]
    request = ["-m", "POST", "-d", body, "-T", "application/json", "-H", f"Authorization: Bearer {key}"]
    said = _run(["hey", *pace, *request, "-o", "csv", url])
    rows = [line.split(",") for line in said.splitlines()[1:] if line]
    if not rows:
        raise DriftlineError(f"hey said what cannot be read:\n{said}")
    times = sorted(float(row[0]) * 1000 for row in rows)
    failed = sum(row[6] != "200" for row in rows)
    return Load(len(rows) / seconds, times[len(times) // 2], times[int(len(times) * 0.99)], failed)


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise DriftlineError(f"{command[0]} is not installed: apt-get install {command[0]}")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _ms(value: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", value)
    if match is None:
        raise DriftlineError(f"wrk gave a time that cannot be read: {value!r}")
    return float(match[1]) * _UNITS[match[2]]
