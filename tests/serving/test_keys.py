"""The life of a key: made, limited, rotated, revoked; and what the audit log says of it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.errors import ConfigError, UnknownIdError
from driftline.serving import audit
from driftline.serving.calls import Principal, RateLimit
from driftline.serving.commands.keys import app as keys_app
from driftline.serving.http.problems import Problem
from driftline.serving.http.rate_limit import MAX_BUCKETS, RateLimiter
from driftline.serving.keys import create_key, find_principal, list_keys, parse_key, revoke_key, rotate_key
from driftline.state.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/keys.db")
    yield opened
    opened.close()


def principal_of(store: Store, key: str) -> Principal | None:
    parts = parse_key(key)
    assert parts is not None
    return find_principal(store, *parts)


def test_only_the_hash_of_a_key_is_stored(store: Store) -> None:
    key = create_key(store, "acme", "hashed", ["write", "read"])
    _, key_id, secret = key.split("_", 2)
    with store.engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert len(rows) == 1
    assert secret not in str(rows)
    assert principal_of(store, key) == Principal("acme", key_id, frozenset({"read", "write"}))
    assert find_principal(store, key_id, "0" * 64) is None
    assert find_principal(store, "0" * 12, "0" * 64) is None  # what an unknown key is compared with opens nothing


def test_what_cannot_be_is_refused_all_at_once(store: Store) -> None:
    with pytest.raises(ConfigError) as caught:
        create_key(store, "a b", "n" * 129, ["root"], RateLimit(per_second=0, burst=0))
    assert len(caught.value.faults) == 5
    with pytest.raises(UnknownIdError, match="no key 'ffff'"):
        revoke_key(store, "ffff")
    with pytest.raises(UnknownIdError, match="no key 'ffff'"):
        rotate_key(store, "ffff")


def test_a_successor_inherits_everything_and_the_old_key_closes_after_the_overlap(store: Store) -> None:
    old = create_key(store, "acme", "shop", ["read"], RateLimit(5.0, 10))
    old_id = old.split("_")[1]
    new = rotate_key(store, old_id, overlap_seconds=0.4)
    before, after = list_keys(store)
    assert (after.tenant, after.name, after.scopes, after.limit) == ("acme", "shop", ("read",), RateLimit(5.0, 10))
    assert after.expires_at is None
    assert before.expires_at == pytest.approx(time.time() + 0.4, abs=0.3)
    found = principal_of(store, old)
    assert found is not None
    assert found.expires_at == before.expires_at  # a Router that remembers the key stops on time
    time.sleep(0.45)
    assert principal_of(store, old) is None
    assert principal_of(store, new) is not None
    with pytest.raises(ConfigError, match="closed already"):
        rotate_key(store, old_id)


def test_a_second_rotation_does_not_lengthen_the_first(store: Store) -> None:
    key_id = create_key(store, "acme", "shop", ["read"]).split("_")[1]
    rotate_key(store, key_id, overlap_seconds=60)
    rotate_key(store, key_id, overlap_seconds=3600)
    assert list_keys(store)[0].expires_at == pytest.approx(time.time() + 60, abs=5)


def test_every_change_of_a_key_is_in_the_audit_log(store: Store) -> None:
    key_id = create_key(store, "acme", "shop", ["read"]).split("_")[1]
    rotate_key(store, key_id)
    revoke_key(store, key_id)
    create_key(store, "other", "shop", ["read"])
    entries = audit.read(store, "acme")
    assert [(entry.actor, entry.action, entry.subject, entry.outcome) for entry in entries] == [
        ("cli", "key.create", key_id, "done"),
        ("cli", "key.rotate", key_id, "done"),
        ("cli", "key.revoke", key_id, "done"),
    ]
    assert [entry.action for entry in audit.read(store, newest=2)] == ["key.revoke", "key.create"]


def test_the_audit_log_knows_a_user_without_naming_her(store: Store) -> None:
    with audit.recorded(store, audit.Deed("acme", "0123456789ab", "user.erase", "ada@example.org")):
        pass
    with (
        pytest.raises(OSError, match="disk full"),
        audit.recorded(store, audit.Deed("acme", "0123456789ab", "user.erase", "ada@example.org")),
    ):
        raise OSError("disk full")
    entries = audit.read(store, "acme", "ada@example.org")
    assert [entry.outcome for entry in entries] == ["done", "failed"]
    assert len(entries[0].subject) == 32
    assert audit.read(store, "acme", "bob") == []
    assert audit.read(store, "other", "ada@example.org") == []
    with store.engine.begin() as connection:
        assert "ada" not in str(connection.exec_driver_sql("SELECT * FROM audit").all())


def test_a_bucket_grants_the_burst_and_then_the_rate() -> None:
    now = 100.0
    limiter = RateLimiter(default=None, clock=lambda: now)
    key = Principal("acme", "k", frozenset(), RateLimit(per_second=2.0, burst=3))
    for _ in range(3):
        limiter.take(key)
    with pytest.raises(Problem) as caught:
        limiter.take(key)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")  # half a second, rounded up
    now = 100.5  # one token is back
    limiter.take(key)
    with pytest.raises(Problem):
        limiter.take(key)
    now = 1000.0  # as many as the burst, not more
    for _ in range(3):
        limiter.take(key)
    with pytest.raises(Problem):
        limiter.take(key)


def test_replicas_share_a_limit_and_a_key_without_one_takes_the_default() -> None:
    now = 0.0
    limiter = RateLimiter(RateLimit(per_second=1.0, burst=8), replicas=4, clock=lambda: now)
    key = Principal("acme", "k", frozenset())
    limiter.take(key)
    limiter.take(key)  # a quarter of 8
    with pytest.raises(Problem) as caught:
        limiter.take(key)
    assert caught.value.headers["Retry-After"] == "4"  # a quarter of 1/s
    unlimited = RateLimiter(None)
    for _ in range(100):
        unlimited.take(key)


def test_the_memory_for_buckets_is_bounded() -> None:
    limiter = RateLimiter(RateLimit(1.0, 1), clock=iter(range(MAX_BUCKETS + 3)).__next__)
    for number in range(MAX_BUCKETS + 2):
        limiter.take(Principal("acme", str(number), frozenset()))
    assert len(limiter._buckets) == MAX_BUCKETS
    assert "0" not in limiter._buckets


def test_keys_are_handled_on_the_command_line(tmp_path: Path) -> None:
    where = ["--database", f"sqlite:///{tmp_path}/keys.db"]

    def run(*words: str, fails: bool = False) -> str:
        result = CliRunner().invoke(keys_app, [*words, *where])
        assert (result.exit_code != 0) == fails, result.output
        return str(result.exception) if fails else result.stdout.strip()

    key = run("create", "--name", "demo", "--scope", "read", "--scope", "write", "--rate", "2.5", "--burst", "5")
    key_id = key.split("_")[1]
    listed = run("list")
    assert "read,write" in listed
    assert "2.5/s, 5 at once" in listed
    assert key not in listed
    successor = run("rotate", key_id, "--overlap", "2d")
    assert successor.startswith("dl_")
    assert "expires" in run("list")
    run("revoke", key_id)
    assert "revoked" in run("list")
    log = run("audit").splitlines()
    assert [line.split("  ")[3] for line in log] == ["key.create", "key.rotate", "key.revoke"]
    assert "a number with s, m, h or d" in run("rotate", successor.split("_")[1], "--overlap", "soon", fails=True)
    assert "give --rate too" in run("create", "--name", "x", "--scope", "read", "--burst", "5", fails=True)
    assert "give --tenant too" in run("audit", "--subject", "ada", fails=True)
