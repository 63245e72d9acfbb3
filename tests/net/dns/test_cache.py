"""The cache is bounded by age, entries and octets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postroom.net.dns.cache import OVERHEAD, Cache


def test_a_value_goes_at_its_moment() -> None:
    cache: Cache[str] = Cache(10, 10_000)
    cache.put("a", "1", 5.0, 0)
    assert cache.get("a", 4.999) == "1"
    assert cache.get("a", 5.0) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_the_longest_unused_goes_first() -> None:
    cache: Cache[int] = Cache(2, 10_000)
    cache.put("a", 1, 9.0, 0)
    cache.put("b", 2, 9.0, 0)
    cache.get("a", 0.0)
    cache.put("c", 3, 9.0, 0)
    assert [cache.get(key, 0.0) for key in "abc"] == [1, None, 3]


def test_large_values_drive_out_many() -> None:
    cache: Cache[int] = Cache(100, 10 * OVERHEAD)
    for number in range(10):
        cache.put(number, number, 9.0, 0)
    cache.put("large", 0, 9.0, 8 * OVERHEAD)
    assert (len(cache), cache.octets) == (2, 10 * OVERHEAD)
    cache.put("too large", 0, 9.0, 10 * OVERHEAD)
    assert (len(cache), cache.octets) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2000), st.integers(0, 9))))
def test_the_account_is_right(steps: list[tuple[int, int, int]]) -> None:
    cache: Cache[int] = Cache(5, 4000)
    for now, (key, size, age) in enumerate(steps):
        cache.get((key + 1) % 10, now)
        cache.put(key, key, now + age, size)
        assert len(cache) <= 5 and cache.octets <= 4000
    for key in range(10):
        cache.get(key, 1e9)
    assert (len(cache), cache.octets) == (0, 0)
