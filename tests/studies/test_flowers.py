"""Flowers: choices are made on validation, depth and rate are the advice's, every photo is credited."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import datasets, page
from tlhelpers.studies import flowers

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
ROW = ["value", "validation", "choice", "cpu_seconds"]


@pytest.fixture(autouse=True)
def _pocket(monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


def part(number, start):
    """Photos of one colour each, which says the class."""
    labels = np.arange(number) % 5
    images = np.broadcast_to((50 * labels).astype(np.uint8)[:, None, None, None], (number, 2, 2, 3))
    return datasets.Split(images, labels, np.arange(start, start + number))


@pytest.fixture
def small(monkeypatch):
    """Stand in for the flowers, as many as there are for training."""
    parts = [part(650, 0), part(20, 650), part(15, 670)]
    data = datasets.Dataset("flowers", *parts, class_names=NAMES, licence="none", source="a test")
    monkeypatch.setattr(flowers, "load", lambda edition: data)
    return data


def test_a_page_does_not_measure_again_what_trains_from_scratch():
    table = page.measured("applications").query(flowers.STUDY.where)
    assert {*table.method} == {*flowers.TRANSFER, "random weights"}


def test_the_stand_in_has_both_photos_in_each_part():
    data = flowers.load(POCKET)
    parts = (data.train, data.validation, data.test)
    assert data.class_names == ("temple", "flower")
    assert [(len(part), set(part.labels)) for part in parts] == [(50, {0, 1}), (30, {0, 1}), (20, {0, 1})]
    assert (flowers.load(POCKET).train.images == data.train.images).all()


def test_parts_of_the_stand_in_do_not_overlap(monkeypatch):
    def columns(path, *, size):
        """A photo that says in each pixel how far to the right it lies."""
        return np.broadcast_to((np.arange(size) // 2).astype(np.uint8)[:, None], (size, size, 3))

    monkeypatch.setattr(flowers.images, "read_image", columns)
    data = flowers.load(POCKET)
    train, validation, test = (p.images for p in (data.train, data.validation, data.test))
    assert train.max() < validation.min()
    assert validation.max() < test.min()


def test_the_sample_photos_are_credited():
    line = flowers.credit_line(flowers.load(POCKET), [3])
    assert line == flowers.credit_line()
    for word in ("[danielbuechele](", "[vultilion](", "creativecommons.org/licenses/by/2.0", "cropped"):
        assert word in line


def test_every_author_is_linked_once_and_names_keep_out_of_markdown(small, monkeypatch):
    photos = flowers.photos()
    assert (len(photos), set(photos.licence)) == (1000, {"CC BY 2.0"})
    photos.loc[1, "author"] = "a_b [c] *d*"
    monkeypatch.setattr(flowers, "photos", lambda: photos)
    authors, licence, change = flowers.credit_line(small, [1, 0, 1]).split("; ")
    first, second = rf"[a\_b \[c\] \*d\*]({photos.url[1]})", f"[{photos.author[0]}]({photos.url[0]})"
    assert authors == f"Photos: {first}, {second}"
    assert licence.startswith("[CC BY 2.0](")
    assert change.endswith("resized to 160x160.")
    assert flowers.credit_line(small, []) == ""
    with pytest.raises(KeyError, match="1000"):
        flowers.credit_line(small, [3, 1000])


def test_layer_and_penalty_are_chosen_on_validation(small, monkeypatch):
    """Only the second layer tells the classes apart on validation; on test only the third does."""
    asked = iter(("train", "validation", "test"))

    def read(images):
        labels, now = images[:, 0, 0, 0] // 50, next(asked)
        useful = {flowers.CUTS[1]: ("train", "validation"), flowers.CUTS[2]: ("train", "test")}
        return {
            cut: np.eye(5)[labels] if now in useful.get(cut, ()) else np.zeros((len(labels), 5))
            for cut in flowers.CUTS
        }

    monkeypatch.setattr(flowers, "reader", lambda *_, **options: read)
    found = flowers.measure("frozen", 40, seed=0)
    assert found["choice"] == f"{flowers.CUTS[1]}, penalty 0.01"
    assert (found["validation"], found["value"]) == (1.0, pytest.approx(0.2))
    assert list(found) == ROW


def test_random_weights_are_read_like_frozen_ones_and_follow_the_seed(small, monkeypatch):
    asked = []

    def reader(*_, **options):
        asked.append(options)
        return lambda images: dict.fromkeys(flowers.CUTS, np.eye(5)[images[:, 0, 0, 0] // 50])

    monkeypatch.setattr(flowers, "reader", reader)
    for method in ("frozen", "random weights"):
        assert flowers.measure(method, 40, seed=2)["value"] == 1.0
    frozen, random = asked
    assert random == frozen | {"weights": "random", "seed": 2}


def test_fine_tuning_does_as_the_classic_advice_and_the_map_say(small, monkeypatch):
    asked = {}

    def train(network, few, *others, **how):
        asked[len(few)] = (network, how)
        right, wrong = (np.eye(5)[(part.labels + n) % 5] for n, part in enumerate(others))
        return [right, wrong]

    monkeypatch.setattr(flowers, "classic_network", lambda *settings: settings)
    monkeypatch.setattr(flowers, "train_classic", train)
    for labels in flowers.SIZES:
        question = {"n_examples": labels, "n_classes": 5, "similarity": "similar"}
        advice = tl.recommend_strategy(**question, by="classic")
        assert advice.cut == "end"
        found = flowers.measure("fine-tuned", labels, seed=2)
        assert (found["validation"], found["value"]) == (1.0, 0.0)
        assert found["choice"] == f"{advice.depth}, rate {advice.learning_rate:g}"
        network, how = asked[labels]
        assert network == ("mobilenet_v2_glyphs", (2, 2, 3), 32, 5, advice.train_from)
        assert (how["penalty"], how["rate"], how["seed"]) == (advice.penalty, advice.learning_rate, 2)
    plans = {labels: (how["epochs"], how["batch_size"]) for labels, (_, how) in asked.items()}
    assert (plans[50], plans[650]) == ((20, 16), (6, 32))
    # As many steps with all that count as few labels, and with all that count as many.
    steps = [epochs * labels / batch_size for labels, (epochs, batch_size) in plans.items()]
    assert steps == pytest.approx([62.5, 62.5, 122, 122], rel=0.06)
    row = pd.Series({"method": "fine-tuned", "labels": 50, "seed": 2})
    assert flowers.STUDY.again(POCKET, row) == (0.0, len(small.test))


def test_the_rate_from_scratch_is_the_better_one_on_validation_with_seed_0(small, monkeypatch):
    asked, rates = [], flowers.RATES["from scratch"]

    def run(method, edition, data, few, seed, rate):
        asked.append((len(few), seed))
        good = rate == rates[len(few) < 100]
        return "", data.validation.labels + (not good), data.test.labels + good

    monkeypatch.setattr(flowers, "_from_scratch", run)
    kept = functools.partial(flowers._kept_rate.__wrapped__, "from scratch", edition=page.current())
    assert [kept(labels) for labels in flowers.SIZES] == [rates[1]] * 2 + [rates[0]] * 2
    assert set(asked) == {(50, 0), (650, 0)}


@pytest.mark.parametrize("method", flowers.SCRATCH)
def test_from_scratch_follows_the_seed_alone(method, monkeypatch):
    monkeypatch.setattr(flowers, "STOPPING", {**flowers.STOPPING, "steps": 2, "epochs": 2})
    monkeypatch.setattr(flowers, "_kept_rate", lambda method, labels, edition: 0.001)
    started, fit = [], flowers.fit_few

    def watched(model, *data, **how):
        started.append(model.get_weights())
        return fit(model, *data, **how)

    monkeypatch.setattr(flowers, "fit_few", watched)
    # The backbone's first blocks are made from a seed as all of it is, and traced in a fifth of the time.
    whole = flowers.load_backbone

    def first_blocks(name, **how):
        network = whole(name, **how)
        return keras.Model(network.inputs, network.get_layer("block_2_add").output)

    monkeypatch.setattr(flowers, "load_backbone", first_blocks)
    flowers._untrained.cache_clear()
    first, _, again = (flowers.measure(method, 40, seed=seed) for seed in (0, 1, 0))
    assert list(first) == ROW
    assert first["choice"].endswith(" of 2, rate 0.001")
    assert first | {"cpu_seconds": 0} == again | {"cpu_seconds": 0}
    one, other, same = started
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])
    assert not np.array_equal(one[-2], other[-2])
