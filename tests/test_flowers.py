"""Flowers: what is chosen is chosen on validation, rungs are the ladder's, bad input is named."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import datasets, flowers, ladder

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def part(number, start):
    """Photos of one colour each, which says the class."""
    labels = np.arange(number) % 5
    images = np.zeros((number, 16, 16, 3), np.uint8) + (50 * labels[:, None, None, None]).astype(np.uint8)
    return datasets.Split(images=images, labels=labels, indices=np.arange(start, start + number))


@pytest.fixture
def small(monkeypatch):
    """Stand in for the flowers, and forget what was measured on them."""
    data = datasets.Dataset("flowers", part(40, 0), part(20, 40), part(20, 60), NAMES, "none", "a test")
    monkeypatch.setattr(flowers.datasets, "load_dataset", lambda name: data)
    kept = (flowers._kept_rate, flowers._from_scratch, flowers._untrained, flowers._reader)
    for function in kept:
        function.cache_clear()
    yield data
    for function in kept:
        function.cache_clear()


def test_the_stand_in_has_both_photos_in_each_part():
    data = flowers.load(POCKET)
    assert data.class_names == ("temple", "flower")
    assert [len(p) for p in (data.train, data.validation, data.test)] == [50, 30, 20]
    for split in (data.train, data.validation, data.test):
        assert set(split.labels) == {0, 1}
    again = flowers.load(POCKET)
    assert (again.train.images == data.train.images).all()


def test_parts_of_the_stand_in_do_not_overlap(monkeypatch):
    def columns(path, *, size):
        """A photo that says in each pixel how far to the right it lies."""
        return np.broadcast_to((np.arange(size) // 2).astype(np.uint8)[:, None], (size, size, 3))

    monkeypatch.setattr(flowers.datasets, "read_image", columns)
    data = flowers.load(POCKET)
    train, validation, test = (p.images for p in (data.train, data.validation, data.test))
    assert train.max() < validation.min()
    assert validation.max() < test.min()


def test_whose_photos_they_are():
    line = flowers.credit_line(flowers.load(POCKET))
    assert line == flowers.credit_line()
    for word in ("danielbuechele", "vultilion", "creativecommons.org/licenses/by/2.0", "cropped"):
        assert word in line
    named = SimpleNamespace(name="flowers")
    assert flowers.credit_line(named, [7]) == tl.datasets.credit_line([7])


def classifier(bias):
    head = keras.layers.Dense(len(bias), activation="softmax")
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), head])
    head.set_weights([np.zeros((48, len(bias))), np.log(bias)])
    return model


def test_recognise_lists_the_likeliest_first():
    found = flowers.recognise(classifier([0.2, 0.5, 0.3]), np.zeros((4, 4, 3), "uint8"), ("a", "b", "c"))
    assert found["class"].tolist() == ["b", "c", "a"]
    assert found.probability.tolist() == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 3)), np.zeros((4, 4), "uint8"), np.zeros((1, 4, 4, 3), "uint8")]
)
def test_recognise_refuses_what_is_no_such_picture(picture):
    with pytest.raises(ValueError, match=r"picture: expected uint8 of shape \(4, 4, 3\), got .* size=4"):
        flowers.recognise(classifier([0.5, 0.5]), picture, ("a", "b"))


def test_recognise_refuses_names_that_do_not_fit():
    with pytest.raises(ValueError, match="class_names: expected 2 of them, got 1"):
        flowers.recognise(classifier([0.5, 0.5]), np.zeros((4, 4, 3), "uint8"), ("a",))


def test_unknown_methods_and_impossible_numbers_are_named():
    with pytest.raises(LookupError, match="unknown method 'frozn'"):
        flowers.measure("frozn", 50, seed=0)
    for labels in (0, 9, 651):
        with pytest.raises(ValueError, match=f"labels: expected 10 to 650, got {labels}"):
            flowers.measure("frozen", labels, seed=0)


def test_layer_and_penalty_are_chosen_on_validation(small, monkeypatch):
    """Only the second layer tells the classes apart on validation; on test only the third does."""
    calls = []

    def predict(images, verbose):
        labels = images[:, 0, 0, 0] // 50
        calls.append(labels)
        asked = ("train", "validation", "test")[len(calls) - 1]
        useful = {1: ("train", "validation"), 2: ("train", "test")}
        return [
            np.eye(5)[labels] if asked in useful.get(place, ()) else np.zeros((len(labels), 5))
            for place in range(len(flowers.CUTS))
        ]

    reader = SimpleNamespace(predict=predict)
    monkeypatch.setattr(flowers, "_reader", lambda: reader)
    found = flowers.measure("frozen", 40, seed=0)
    assert found["choice"].startswith(flowers.CUTS[1])
    assert found["validation"] == 1.0
    assert found["value"] == pytest.approx(0.2)


def test_fine_tuned_is_a_rung_of_the_ladder_as_the_advice_says(monkeypatch):
    asked = {}

    def rung(case, depth, *, seed, rate):
        asked[case.examples] = (case, depth, seed, rate)
        return {"test_accuracy": 0.8, "validation_accuracy": 0.7, "cpu_seconds": 1.0}

    monkeypatch.setattr(ladder, "rung", rung)
    for labels in flowers.SIZES:
        found = flowers.measure("fine-tuned", labels, seed=2)
        advice = tl.recommend_strategy(n_examples=labels, n_classes=5, similarity="similar")
        assert asked[labels][1:] == (advice.depth, 2, advice.learning_rate)
        assert (found["value"], found["validation"]) == (0.8, 0.7)
        assert found["choice"].startswith(advice.depth)
    # Where the ladder has the same number of labels it is the ladder's own rung.
    assert asked[50][0] == ladder.case("full", "flowers", "few")
    assert asked[650][0] == ladder.case("full", "flowers", "many")
    steps = [case.epochs * case.examples / case.batch_size for case, *_ in asked.values()]
    assert max(steps) < 1.4 * min(steps)


def test_the_rate_from_scratch_is_the_better_one_on_validation_with_seed_0(small, monkeypatch):
    asked = []

    def run(labels, seed, rate):
        asked.append((labels, seed, rate))
        good = flowers.RATES[1] if labels == flowers.TUNED_AT[0] else flowers.RATES[0]
        return {"validation": 0.6 if rate == good else 0.5, "value": 0.1 if rate == good else 0.9}

    monkeypatch.setattr(flowers, "_from_scratch", run)
    assert [flowers._kept_rate(labels) for labels in (50, 150, 350, 650)] == [
        *[flowers.RATES[1]] * 2,
        *[flowers.RATES[0]] * 2,
    ]
    assert {(labels, seed) for labels, seed, _ in asked} == {(50, 0), (650, 0)}


def test_from_scratch_follows_the_seed_alone_and_stops_by_the_rule(small, monkeypatch):
    monkeypatch.setattr(flowers, "SCRATCH_SIZE", 8)
    monkeypatch.setattr(flowers, "STEPS", 2)
    monkeypatch.setattr(flowers, "MOST_EPOCHS", 3)
    run = flowers._from_scratch.__wrapped__
    first, other, again = (run(40, seed, 0.001) for seed in (0, 1, 0))
    assert first | {"cpu_seconds": 0} == again | {"cpu_seconds": 0}
    flowers._untrained.cache_clear()
    fresh = run(40, 0, 0.001)
    assert first | {"cpu_seconds": 0} == fresh | {"cpu_seconds": 0}
    assert first["choice"].endswith("rate 0.001")
    assert {"value", "validation", "choice", "cpu_seconds"} == set(other)


@pytest.fixture
def table(small, monkeypatch):
    points = [
        {
            "domain": "flowers",
            "method": "frozen",
            "labels": 50,
            "seed": s,
            "value": 0.7 + s / 100,
            "cpu_seconds": 3.0,
        }
        for s in range(3)
    ]
    dear = [{**point, "labels": 650, "cpu_seconds": 40.0} for point in points]
    scratch = [{**point, "method": "from scratch"} for point in points]
    others = [{**point, "domain": "credit"} for point in points]
    table = pd.DataFrame([*others, *dear, *scratch, *points])
    monkeypatch.setattr(tl.published, "measured", lambda name: table)
    return table


def test_a_cheap_row_is_measured_again(table, monkeypatch):
    asked = []

    def measure(method, labels, *, seed):
        asked.append((method, labels, seed))
        return {"value": 0.7 + seed / 100 + shift}

    monkeypatch.setattr(flowers, "measure", measure)
    shift = 0.0
    for which in range(4):
        assert flowers.check_one(which=which).allowed[0] > 0
    assert asked == [("frozen", 50, seed) for seed in (0, 1, 2, 0)]
    shift = 0.3
    with pytest.raises(tl.published.Disagreement, match="method frozen, labels 50, seed 1"):
        flowers.check_one(which=1)
    table.loc[:, "cpu_seconds"] = 99.0
    with pytest.raises(LookupError, match="rows with three seeds"):
        flowers.check_one()


def test_ten_photos_of_each_kind_are_read_off_frozen_features(full_data):
    found = flowers.measure("frozen", 50, seed=0)
    assert found["value"] > 0.55
    assert found["validation"] > 0.55
