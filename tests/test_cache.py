"""What is written appears whole or not at all, by one process at a time, under names made from content."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tlhelpers import cache

# -- the folder ----------------------------------------------------------------------------------


def test_the_folder_by_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_CACHE", "")
    assert cache.cache_folder().name == "tlhelpers"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLHELPERS_CACHE", "here")
    assert cache.cache_folder() == tmp_path / "here"


def test_a_home_folder_of_nobody_is_one_error(monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(cache.CacheError, match=r"TLHELPERS_CACHE: expected a folder, got '~nobody"):
        cache.cache_folder()


# -- writing safely ------------------------------------------------------------------------------


def test_an_atomic_file_replaces_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "deep" / "a.npy"
    for value in (1, 2):
        with cache.atomic_file(path) as temporary:
            np.save(temporary, np.array(value))
            assert path.exists() == (value == 2)
        assert np.load(path) == value
    assert [entry.name for entry in path.parent.iterdir()] == ["a.npy"]


def test_an_error_leaves_nothing(tmp_path):
    stopped = pytest.raises(KeyError, match="stop")
    with stopped, cache.atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), cache.atomic_file(tmp_path / "a"):
        (tmp_path / "nothing here").read_text()


def test_a_folder_that_is_removed_meanwhile_is_one_error(tmp_path):
    path = tmp_path / "cache" / "a"

    def write():
        with cache.atomic_file(path):
            shutil.rmtree(path.parent)
            path.with_name("b").write_text("more")

    with pytest.raises(cache.CacheError, match=r"got No such file.* Was it removed meanwhile"):
        write()


def test_what_a_killed_process_left_is_cleared_away_after_a_day(tmp_path):
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    for folder, days in ((old, 2), (young, 0)):
        folder.mkdir()
        os.utime(folder, (time.time() - days * 24 * 3600,) * 2)
    with cache.atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("1")
    assert not old.exists()
    assert young.exists()


def test_a_lock_is_held_by_one_at_a_time():
    def ask() -> str:
        with cache.lock("a/b", timeout_s=0.1):
            return "mine"

    message = r"a/b: expected the lock within 0\.1 s, got none"
    with ThreadPoolExecutor() as pool, cache.lock("a/b"), pytest.raises(cache.CacheError, match=message):
        pool.submit(ask).result()
    assert ask() == "mine"


def test_a_long_wait_is_said(monkeypatch):
    monkeypatch.setattr(cache, "WAITING_S", 0.05)

    def ask() -> None:
        with cache.lock("a", timeout_s=0.2):
            pass

    with cache.lock("a"), pytest.warns(RuntimeWarning, match=r"a: another process .* waiting up to 0\.2 s"):  # noqa: SIM117
        with pytest.raises(cache.CacheError):
            ask()


@pytest.mark.parametrize("ask", [cache.atomic_file, cache.lock])
def test_a_folder_that_can_not_be_made(tmp_path, monkeypatch, ask):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "file"))
    with pytest.raises(cache.CacheError, match=r"expected a folder to write to.*TLHELPERS_CACHE"):
        ask(str(tmp_path / "file" / "a")).__enter__()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_while_writing(tmp_path):
    full = pytest.raises(cache.CacheError, match="got a full disk")
    with full, cache.atomic_file(tmp_path / "a.bin") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"1")
    assert list(tmp_path.iterdir()) == []


# -- keys by content -----------------------------------------------------------------------------

BYTES = np.arange(4, dtype=np.uint8)
DIFFERENT: list[tuple[object, ...]] = [
    *[(), ("ab",), ("a", "b"), (["a", "b"],), (b"ab",), (Path("ab"),)],
    *[(1,), (1.0,), (True,), (None,), (np.float32(1),)],
    *[({"a": 1},), ({"a": 2},), ({"b": 1},)],
    *[(BYTES,), (BYTES.astype(np.int8),), (BYTES.reshape(2, 2),), (BYTES[::-1],)],
    *[(np.zeros((0, 2)),), (np.zeros((0, 3)),)],
]


def test_content_keys_differ_where_the_content_does():
    assert len({cache.content_key(*parts) for parts in DIFFERENT}) == len(DIFFERENT)


def test_content_keys_agree_where_the_content_does(tmp_path, monkeypatch):
    array = np.arange(5000, dtype=np.float32).reshape(100, 50)
    key = cache.content_key(array)
    monkeypatch.setattr(cache, "_PIECE", 7 * 50 * 4)  # read by seven rows, the last piece shorter
    stored = np.memmap(tmp_path / "a", dtype=np.float32, mode="w+", shape=array.shape)
    stored[:] = array
    assert cache.content_key(stored) == key
    assert cache.content_key(np.asfortranarray(array)) == key
    stored[-1, -1] = 0
    assert cache.content_key(stored) != key


def test_a_content_key_is_the_same_in_every_process():
    """A changed value here means that every reader's cache is computed anew."""
    key = cache.content_key("a", 1, {"c": [0.1, None], "b": np.arange(3, dtype="<u2")})
    assert key == "b070680b7c6ca06e633aa7dc3aeb7f68f56d4cf8d3e9d1206bf3d0181d11bcb8"


@pytest.mark.parametrize("part", [object(), {1: 2}, np.array([object()]), {1, 2}])
def test_content_keys_of_what_has_no_stable_content(part):
    with pytest.raises(TypeError, match="expected"):
        cache.content_key(part)


# -- keys by code --------------------------------------------------------------------------------


SOURCE = '''"""What it does."""

RATE = 0.1
"""How fast."""


class Thing:
    """A thing."""


def half(x):  # a comment
    """Half of it."""
    return x / 2
'''


@pytest.mark.parametrize("module", ["prefix", "studies/recipes"])
def test_words_do_not_change_a_code_key_and_numbers_do(monkeypatch, module):
    def key(old="", new=""):
        assert old in SOURCE
        monkeypatch.setitem(cache._SOURCES, module, SOURCE.replace(old, new, 1).encode())
        return cache.code_key("studies/recipes")

    for words in ("What it does", "How fast", "A thing", "a comment", "Half of it"):
        assert key(words, "other words") == key()
    assert key("\n\n\ndef", "\ndef") == key()
    assert key("x / 2", "x / 3") != key() != key("RATE = 0.1", "RATE = 0.2")


def test_only_modules_that_compute_count(monkeypatch):
    keys = [cache.code_key(), cache.code_key("studies/recipes")]
    assert keys[0] != keys[1] == cache.code_key("tlhelpers.studies.recipes")
    for module in cache._SOURCES:
        if module not in (*cache.COMPUTES, "studies/recipes"):
            monkeypatch.setitem(cache._SOURCES, module, b"other = 1")
    assert [cache.code_key(), cache.code_key("studies/recipes")] == keys
    assert "plots" in set(cache._SOURCES) - {*cache.COMPUTES}
    for module in cache.COMPUTES:
        monkeypatch.setitem(cache._SOURCES, module, b"other = 1")
        assert cache.code_key() not in keys
        keys.append(cache.code_key())
