"""The caller that is measured is the real one, and the workers do what they are said to."""

import os
from concurrent.futures import BrokenExecutor

import keras
import numpy as np
import pytest

from tlhelpers import _workers, features
from tlhelpers.studies import spread

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT is TensorFlow's")
ROWS = 64


@pytest.fixture(scope="module")
def task() -> spread.Task:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "PART_IMAGES", ROWS)
        return spread.task("digits, 32 px", ROWS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PART_IMAGES", ROWS)


def test_every_part_is_sent_and_given_back_once_and_pays_for_its_way(task: spread.Task) -> None:
    done = spread.run_pass(task, 2, 5)
    assert len(done.sent) == len(done.given) == 5
    assert done.sent_bytes > ROWS * 28 * 28
    assert min(done.read_s, done.send_s, done.receive_s) > 0
    assert done.sent[0] < done.given[-1]
    assert done.began < done.end


def test_the_real_caller_checks_what_simulated_workers_give(task: spread.Task) -> None:
    with pytest.raises(BrokenExecutor, match="a first row that differs"):
        spread.run_pass(task._replace(run=lambda x: [2 * task.run(x)[0]]), 2, 3)


def test_as_many_are_under_way_as_the_model_says(task: spread.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(_workers, "AHEAD_BYTES", 4 * task.examples.nbytes)
    done = spread.run_pass(task, 1, 12, part_s=0.1)
    most = max(place - int(np.searchsorted(done.given, sent)) for place, sent in enumerate(done.sent, 1))
    assert most == spread.under_way(task.examples.nbytes) == 5


def test_the_slower_side_sets_the_pace() -> None:
    how = {"part_s": 8.0, "caller_s": 0.5, "under_way": 10}
    assert [spread.seconds_a_part(n, **how) for n in (1, 4, 10, 1000)] == [8.0, 2.0, 0.8, 0.8]
    assert spread.seconds_a_part(1000, **(how | {"under_way": 100})) == 0.5
