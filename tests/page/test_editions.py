"""The edition is decided in three places, in time, and never swapped in silence."""

import gc
import socket
import sys
import threading
import types

import matplotlib as mpl
import numpy as np
import pytest
import seaborn as sns

from tlhelpers import downloads
from tlhelpers.page import editions


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing decided yet, and nothing on this machine; tests have no network anyway."""
    editions._decide.cache_clear()
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def heads(monkeypatch):
    """Let the official host answer; give the list of addresses asked, and a place for the status."""
    asked, response = [], types.SimpleNamespace(status_code=200)
    monkeypatch.setattr("requests.head", lambda url, **_: asked.append(url) or response)
    return asked, response


def test_pocket_asks_nobody(monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setattr(downloads, "find", lambda name: pytest.fail("looked for a file"))
    assert editions.current().reason == "asked for by TLHELPERS_EDITION"


@pytest.mark.parametrize("asked", ["auto", "full", ""])
def test_full_with_the_files_here(monkeypatch, tmp_path, asked):
    monkeypatch.setenv("TLHELPERS_EDITION", asked)
    monkeypatch.setattr(downloads, "find", lambda name: (tmp_path / name, "the official file"))
    monkeypatch.setattr(editions, "_probe", lambda *args: pytest.fail("asked the network"))
    edition = editions.current()
    assert (edition.name, edition.dataset, edition.backbone) == ("full", "mnist", "mobilenet_v2_imagenet")
    assert "found on this machine" in edition.reason
    assert str(tmp_path) not in edition.reason


@pytest.mark.parametrize("here", [(), editions.FULL_FILES[:1]])
def test_auto_asks_the_official_host_for_what_is_missing(heads, monkeypatch, tmp_path, here):
    monkeypatch.setattr(downloads, "find", lambda name: (tmp_path, "") if name in here else None)
    assert editions.current().name == "full"
    assert heads[0] == [downloads.RESOURCES[name].urls[0] for name in editions.FULL_FILES[len(here) :]]


def test_auto_with_the_official_host_refusing(heads):
    heads[1].status_code = 403
    edition = editions.current()
    assert edition.name == "pocket"
    assert "storage.googleapis.com answered HTTP 403" in edition.reason


def test_auto_without_network():
    edition = editions.current()
    assert edition.name == "pocket"
    assert edition.reason.startswith("mnist.npz and ")
    assert "storage.googleapis.com can't be reached" in edition.reason


def test_auto_does_not_wait_for_a_name_server_that_never_answers(monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def hang(*args, **options):
        asked.set()
        answer.wait(20)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert editions.PROBE_AUTO_S <= 3
    monkeypatch.setattr(editions, "PROBE_AUTO_S", 0.3)
    try:
        # The answer is given only below, so the decision is made without it.
        assert "did not answer within 0.3 s" in editions.current().reason
        assert asked.is_set()
        [probe] = [thread for thread in threading.enumerate() if thread.name == "edition probe"]
        assert probe.daemon
    finally:
        answer.set()
    probe.join(60)


def test_full_that_can_not_be_had_says_what_was_tried(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path))
    monkeypatch.setenv("TLHELPERS_EDITION", "full")
    tried = rf"mnist\.npz.*{tmp_path}\n.*{tmp_path}/cache\n.*storage\.googleapis\.com can't be reached"
    with pytest.raises(editions.EditionError, match=rf"(?s){tried}.*TLHELPERS_EDITION=pocket"):
        editions.current()
    monkeypatch.setattr(editions, "_probe", lambda *args: "")
    assert editions.current().name == "full", "what is missing may come"


def test_a_spoiled_mirror_is_not_swapped_for_pocket(monkeypatch, tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"spoiled")
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path))
    with pytest.raises(downloads.DownloadError, match=r"mnist\.npz: wrong content"):
        editions.current()


def test_an_unknown_edition_gets_a_hint(monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "fulll")
    with pytest.raises(LookupError, match=r"unknown edition in TLHELPERS_EDITION 'fulll'.*mean 'full'"):
        editions.current()


def test_decided_once_and_again_when_a_variable_changes(heads, monkeypatch, tmp_path):
    assert editions.current() is editions.current()
    assert len(heads[0]) == 2
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    assert editions.current().name == "pocket"
    monkeypatch.delenv("TLHELPERS_EDITION")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "other"))
    assert editions.current().name == "full"
    assert len(heads[0]) == 4


def test_start_chapter_seeds_and_says_what_runs(monkeypatch, capsys):
    import keras

    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    draws = []
    with mpl.rc_context():
        for _ in range(2):
            assert editions.start_chapter("Prepare", seed=3) == editions.current()
            draws.append(float(keras.random.uniform(())))
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == sns.color_palette("colorblind")
    assert draws[0] == draws[1]
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "Prepare: pocket edition (digits, mobilenet_v2_glyphs), asked for by TLHELPERS_EDITION."
    versions = f"keras {keras.__version__}, numpy {np.__version__}, Python 3."
    for words in (f"{keras.backend.backend()} ", versions, "; seed 3"):
        assert words in second


def test_start_chapter_names_the_weights_variant(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(downloads, "find", lambda name: (tmp_path / name, "a variant"))
    (tmp_path / editions.FULL_FILES[1]).write_bytes(b"some weights")
    with mpl.rc_context():
        editions.start_chapter()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Full edition (mnist, mobilenet_v2_imagenet)")
    assert lines[2].endswith("..., a variant.")


def test_only_what_keras_loads_is_kept_out_of_the_search_for_rubbish(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    gc.unfreeze()
    try:
        with editions._nothing_to_collect():
            assert not gc.isenabled()
            monkeypatch.setitem(sys.modules, "keras", sys)
        frozen = gc.get_freeze_count()
        with editions._nothing_to_collect():
            assert gc.isenabled()
        assert frozen >= gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
