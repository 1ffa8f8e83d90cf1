"""Distil: what a small network is taught, by whom, and that the chapter's lines are the study's."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tlhelpers import page
from tlhelpers.studies import distil, intervals
from tools.checks import notebooks

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
CHAPTER = Path(__file__).parents[2] / "book" / "applications" / "15-distil-a-model.ipynb"
SOME = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], "float32")


def toy(unlabelled=40, texts=()):
    """Two classes that one pixel tells apart; the same in all three parts."""
    labels = np.arange(unlabelled) % 2
    x = np.zeros((unlabelled, 8, 8), "uint8")
    x[:, 2:6, 2:6] = (np.arange(unlabelled) + 100)[:, None, None]
    layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(2)]
    return distil.Task(((x, labels),) * 3, lambda: keras.Sequential(layers), texts)


@pytest.fixture
def taught(monkeypatch):
    """The toy, and a teacher of it that holds every example for a 1, but for the first."""
    task = toy()
    said = np.tile(np.array([[0.25, 0.75]], "float32"), (40, 1))
    said[0] = [0.875, 0.125]
    monkeypatch.setattr(distil, "load", lambda *_: task)
    monkeypatch.setattr(distil, "teacher", lambda *_: ([said] * 3, "a choice", 1.0))
    return task, said


def test_a_temperature_divides_the_scores_before_the_softmax():
    scores = np.log(SOME[:1])
    divided = np.exp(scores / 3)
    np.testing.assert_allclose(distil.soften(SOME[:1], 3.0), divided / divided.sum(), rtol=1e-5)
    np.testing.assert_allclose(distil.soften(SOME, 1.0), SOME, rtol=1e-6)
    np.testing.assert_array_equal(distil.soften(SOME[1:], 8.0), SOME[1:])  # a label stays a label


def gradient(temperature, scores, soft):
    """Of the loss by the scores; backends differ in how they give one, differences do not."""
    loss, found = distil.distillation(temperature), []
    for place in range(3):
        nudge = 0.01 * np.eye(3, dtype="float32")[[place]]
        up, down = (float(loss(soft, scores + sign * nudge)[0]) for sign in (1, -1))
        found.append((up - down) / 0.02)
    return np.array(found)


def test_the_loss_is_least_at_the_teachers_scores_and_keeps_the_size_of_its_gradient():
    scores, other = np.log(SOME[:1]), np.array([[0.3, 0.1, -0.2]], "float32")
    for temperature in (1.0, 4.0):
        soft = distil.soften(SOME[:1], temperature)
        np.testing.assert_allclose(gradient(temperature, scores, soft), 0, atol=1e-3)
    sizes = [np.abs(gradient(t, other, distil.soften(SOME[:1], t))).max() for t in (4.0, 8.0)]
    assert 0.8 < sizes[1] / sizes[0] < 1.25
    plain = keras.losses.categorical_crossentropy(SOME[1:], other, from_logits=True)
    np.testing.assert_allclose(distil.distillation(1.0)(SOME[1:], other), plain)


@pytest.mark.parametrize("texts", [(), ("a sentence",) * 120])
def test_all_ways_see_as_many_examples_and_know_which_is_which(texts):
    task, rows = toy(texts=texts), np.array([3, 7])
    (few, which), (_, everyone) = (distil.views(task, some, seed=0) for some in (rows, np.arange(40)))
    assert len(few) == len(which) == len(everyone) == (40 if texts else 80)
    assert set(which) == {3, 7}
    # A changed copy keeps its brightest pixel, whose value is the example's number.
    brightest = few.reshape(len(few), -1).max(axis=1)
    assert (np.abs(brightest.astype(int) - 100 - which) <= 1).mean() > 0.9


def test_what_each_way_is_taught(taught):
    task, said = taught
    lessons = {
        way: distil._lesson(POCKET, "digits", way, 4, 0)
        for way in (distil.SOFT, distil.HARD, distil.FEW, distil.ALL)
    }
    np.testing.assert_array_equal(lessons[distil.SOFT][1], np.tile(said, (2, 1)))
    np.testing.assert_array_equal(lessons[distil.HARD][1], np.tile(np.round(said), (2, 1)))
    np.testing.assert_array_equal(lessons[distil.ALL][1], np.eye(2)[np.tile(task.parts[0][1], 2)])
    x, labels = lessons[distil.FEW]
    assert len(np.unique(x.max(axis=(1, 2)))) < 13, "more than the few are shown"  # copies round
    np.testing.assert_array_equal(x[:4, 3, 3] % 2, labels[:4].argmax(axis=1))


def test_validation_chooses_rate_and_temperature(taught, monkeypatch):
    tried = []

    def train(task, x, lesson, *, rate, temperature, passes, seed):
        tried.append((rate, temperature, passes))
        good = (rate == 0.016) + (temperature == 2.0)
        scores = np.eye(2)[np.where(np.arange(40) < 20 + 5 * good, task.parts[1][1], 0)]
        return type("Model", (), {"predict": lambda self, x, **_: scores})()

    monkeypatch.setattr(distil, "train", train)
    monkeypatch.setattr(distil, "SIZES", {"digits": (4, 8)})
    distil.chosen.cache_clear()
    assert distil.chosen(POCKET, "digits", distil.SOFT) == (0.016, 2.0)
    assert distil.chosen(POCKET, "digits", distil.FEW) == (0.016, 1.0)
    assert {passes for _, _, passes in tried} == {distil.PASSES["digits"] // 2}
    distil.chosen.cache_clear()


def test_rows_hold_the_ways_and_their_answers(taught, monkeypatch):
    monkeypatch.setattr(distil, "chosen", lambda *_: (0.01, 1.0))
    monkeypatch.setattr(distil, "train", lambda task, *_, **__: task.network())
    monkeypatch.setattr(distil, "SIZES", {"digits": (4, 8)})
    monkeypatch.setattr(distil, "PARTS", {"digits": (40, 40, 40)})
    first, second, third = (distil._row(POCKET, "digits", n, 0) for n in (4, 8, 40))
    assert list(first.way) == [distil.TEACHER, distil.SOFT, distil.HARD, distil.FEW]
    assert list(second.way) == [distil.TEACHER, distil.SOFT, distil.FEW]
    assert list(third.way) == [distil.ALL]
    teacher = intervals.right_answers(first.right[0])
    np.testing.assert_array_equal(teacher, (np.arange(40) == 0) | (np.arange(40) % 2 == 1))
    assert first.test_accuracy[0] == pytest.approx(teacher.mean())
    assert distil._grid(POCKET) == []
    assert len(distil._grid(FULL)) == 9


def test_words_are_counted_in_the_labelled_sentences_alone():
    texts = ("good one", "bad one", "good two", "bad two", *("good three", "bad four") * 4)
    labels = np.array([1, 0] * 6)
    x = np.zeros((4, 3), "int32")
    task = distil.Task(tuple((x, labels[:4]) for _ in range(3)), lambda: None, texts)
    scores, choice, _ = distil._counts(task, np.array([0, 1]))
    assert [(each.argmax(axis=1) == labels[:4]).all() for each in scores] == [True] * 3
    assert choice.startswith("words, C")


def test_the_small_network_runs_in_a_page_and_weighs_a_tenth(tmp_path):
    small = distil.small_network((28, 28))
    assert small.count_params() <= 251_338 / 10
    model = keras.Model(small.inputs, keras.layers.Activation("softmax")(small.outputs[0]))
    assert page.web.export(model, tmp_path).size < 60_000


def test_the_chapters_lines_are_those_of_the_study():
    names = {"keras": keras, "x": np.zeros((1, 28, 28)), "teacher": distil.small_network((28, 28))}
    for _, cell in notebooks.code_cells(notebooks.load(CHAPTER)):
        text = notebooks.source(cell)
        if text.startswith(("def soften", "def distillation", "layers = [", "vocabulary = ")):
            exec(text, names)
    scores = np.array([[0.5, 0.1, -0.4]], "float32")
    for name, own in {"small": distil.small_network((28, 28)), "reader": distil.word_network(30_522)}.items():
        assert [type(layer) for layer in names[name].layers] == [type(layer) for layer in own.layers]
        assert [each.shape for each in names[name].weights] == [each.shape for each in own.weights]
    soft = names["soften"](SOME[:1], 4.0)
    np.testing.assert_array_equal(soft, distil.soften(SOME[:1], 4.0))
    there, here = names["distillation"](4.0)(soft, scores), distil.distillation(4.0)(soft, scores)
    np.testing.assert_array_equal(there, here)


def test_the_sentences_are_in_one_part_each(full_data):
    task = distil.load("sentences", FULL)
    assert tuple(len(labels) for _, labels in task.parts) == distil.PARTS["sentences"]
    assert len({text.lower() for text in task.texts}) == sum(distil.PARTS["sentences"])
    assert all(0.4 < labels.mean() < 0.6 for _, labels in task.parts)
