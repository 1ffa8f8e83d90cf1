"""The article's recipe, measured: its table, and the published values that are written from it."""

import tomllib
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import article, recipes

BOOK = Path(__file__).parents[2] / "book"
EXAMPLES = {"full": (100, 90), "pocket": (50, 200)}
RIVAL = page.ARTICLE_TEST["accuracy"]


def binomial(share, n):
    return 2 * np.sqrt(share * (1 - share) / n)


# Every number is another one, so that none can stand for another. In the full edition the gap to the claim
# is what limits each accuracy; in the pocket edition there is none.
HEAD = {"full": {"val_accuracy": 0.7, "val_loss": 0.95}, "pocket": {"val_accuracy": 0.91, "val_loss": 0.5}}
END = {
    "full": {"refreshed_val_accuracy": 0.8, "refreshed_test_accuracy": 0.9, "refreshed_test_loss": 0.2},
    "pocket": {"refreshed_val_accuracy": 0.93, "refreshed_test_accuracy": 0.85, "refreshed_test_loss": 0.6},
}
OURS = {"full": 0.92, "pocket": 0.88}
EXPECTED = {
    "full": {
        "head_validation_accuracy": (0.7, (0.8 - 0.7) / 2),
        "head_validation_loss": (0.95, 0.003),
        "refreshed_validation_accuracy": (0.8, (0.8 - 0.7) / 2),
        "refreshed_test_accuracy": (0.9, (0.9 - RIVAL) / 2),
        "our_test_accuracy": (0.92, (0.92 - RIVAL) / 2),
    },
    "pocket": {
        "head_validation_accuracy": (0.91, binomial(0.91, 50)),
        "head_validation_loss": (0.5, 0.003),
        "refreshed_validation_accuracy": (0.93, binomial(0.93, 50)),
        "refreshed_test_accuracy": (0.85, binomial(0.85, 200)),
        "our_test_accuracy": (0.88, binomial(0.88, 200)),
    },
}


def tables():
    """Three seeds, a thousandth apart; and rows that must not count."""
    tuning, beyond = [], []
    for edition in ("full", "pocket"):
        for seed, off in ((2, 0.001), (0, -0.001), (1, 0.0)):
            key = {"edition": edition, "backbone": "its own", "train_from": 100, "seed": seed}
            lagging = {"val_accuracy": 0.3, "val_loss": 3.0, "test_accuracy": 0.4, "test_loss": 4.0}
            end = {name: value + off for name, value in END[edition].items()}
            head = {name: value + off for name, value in HEAD[edition].items()}
            tuning.append({**key, "epoch": 15, **lagging, **end})
            tuning.append({**key, "epoch": 10, **lagging, **end, **head})
            tuning.append({**key, "epoch": 9, **lagging, **end})
            tuning.append({**tuning[-3], "train_from": 134, "refreshed_test_accuracy": 0.1})
            tuning.append({**tuning[-4], "backbone": article.ORIGINAL, "refreshed_test_accuracy": 0.1})
            row = {"edition": edition, "study": "ours", "seed": seed, "validation_accuracy": 0.5}
            beyond.append({**row, "test_accuracy": OURS[edition] + off})
            beyond.append({**row, "study": "steps", "test_accuracy": 0.1})
    return pd.DataFrame(tuning), pd.DataFrame(beyond)


@pytest.mark.parametrize("edition", ["full", "pocket"])
def test_each_value_is_its_columns_mean_and_no_wider_than_its_claim(edition):
    found = article.results(*tables(), examples=EXAMPLES)
    assert set(found) == set(EXPECTED[edition])
    for name, (value, allowed) in EXPECTED[edition].items():
        there = found[name][edition]
        assert there["value"] == pytest.approx(value, abs=1e-9), name
        assert there["tolerance"] == pytest.approx(allowed, rel=5e-3), name
        assert there["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "column", "epoch", "towards_its_rival"),
    [
        ("head_validation_accuracy", "val_accuracy", 10, 0.09),
        ("refreshed_validation_accuracy", "refreshed_val_accuracy", 15, -0.09),
        ("refreshed_test_accuracy", "refreshed_test_accuracy", 15, -0.09),
        ("our_test_accuracy", "test_accuracy", None, -0.09),
    ],
)
def test_seeds_further_apart_than_the_claim_allows_are_not_published(
    name, column, epoch, towards_its_rival, tmp_path
):
    tuning, beyond = tables()
    table = tuning if epoch else beyond
    rows = table.query("epoch == @epoch" if epoch else "study == 'ours'")
    table.loc[rows.query("edition == 'full' and seed == 1").index, column] += towards_its_rival
    (tmp_path / "measured").mkdir()
    tuning.to_csv(tmp_path / "measured" / "fine_tuning.csv", index=False)
    beyond.to_csv(tmp_path / "measured" / "beyond.csv", index=False)
    with pytest.raises(page.Disagreement, match=f"{name}, full edition: expected seeds within"):
        article.write_published(tmp_path)
    assert not (tmp_path / "published.toml").exists()


def test_the_published_file_is_what_the_committed_tables_give(tmp_path):
    (tmp_path / "measured").symlink_to(BOOK / "measured")
    article.write_published(tmp_path)
    written = (tmp_path / "published.toml").read_text("utf-8")
    assert written == (BOOK / "published.toml").read_text("utf-8")
    assert tomllib.loads(written) == article.results(page.measured("fine_tuning"), page.measured("beyond"))


@pytest.mark.parametrize(("edition", "name"), [("pocket", "digits"), ("full", "mnist")])
def test_the_numbers_of_digits_are_those_of_the_data_set(edition, name, request):
    if edition == "full":
        request.getfixturevalue("full_data")
    data = tl.load_dataset(name)
    assert article.EXAMPLES[edition] == (len(data.validation), len(data.test))


def test_a_run_has_a_row_for_each_epoch_and_the_table_its_columns(monkeypatch):
    pocket = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
    asked = []

    def trained(phase, epochs):
        # The averages of its BatchNorm are those of nothing yet.
        norm, head = keras.layers.BatchNormalization(), keras.layers.Dense(10, "softmax")
        model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), norm, head])
        history = {"epoch": epochs, "phase": phase, "accuracy": 0.5, "loss": 1.0}
        return recipes.Trained(model, pd.DataFrame({**history, "val_accuracy": 0.4, "val_loss": 2.0}))

    def tuned(edition, *, train_from, seed):
        asked.append((edition.backbone, train_from, seed))
        return trained("fine-tuning", range(11, 16))

    monkeypatch.setattr(recipes, "article_head", lambda edition, *, seed: trained("head", range(1, 11)))
    monkeypatch.setattr(recipes, "article_fine_tuned", tuned)
    rows = article.STUDY.row(pocket, article.ORIGINAL, 134, 2)
    table = page.measured("fine_tuning")
    assert ["edition", *article.STUDY.keys, *rows, *page.stamp()] == list(table)
    assert asked == [(article.ORIGINAL, 134, 2)]
    assert list(rows.epoch) == list(range(1, 16))
    assert (rows.test_loss != rows.refreshed_test_loss).all()


@pytest.mark.parametrize(("steps", "times"), [(1, [1] * 6), (2, [2] * 3)])
def test_the_bar_showed_the_mean_over_steps_of_running_means(steps, times):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=steps)
    seen, bar = [], article.ProgressBarMean()
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    x, y = np.random.default_rng(0).normal(size=(24, 3)), np.arange(24) % 2
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[look, bar]).history["loss"]
    assert len(seen) == 2 * len(times)
    for epoch, running in enumerate(np.split(np.array(seen), 2)):
        # Keras added the epoch's end to the bar as one more step.
        expected = np.average([*running, history[epoch]], weights=[*times, 1])
        assert bar.rows[epoch] == {"bar_loss": pytest.approx(expected, rel=1e-6)}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def few_digits(monkeypatch, own_cache):
    monkeypatch.setenv("TLHELPERS_CACHE", str(own_cache))
    whole = tl.datasets.load_dataset
    for module in (tl, tl.datasets):
        monkeypatch.setattr(module, "load_dataset", lambda name: whole(name, limit=96))
    return page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


def test_the_bars_table_has_a_row_for_each_epoch(few_digits, monkeypatch):
    monkeypatch.setattr(recipes, "TRAIN_FROM", 151)  # few layers are quick to trace
    rows = article.BAR.row(few_digits, "fine-tuning", "mobilenet_v2_glyphs", 0.001, 0.01, 0)
    names = ["edition", *article.BAR.keys, *rows, *page.stamp()]
    assert names == list(page.measured(article.BAR.table))
    assert list(rows.epoch) == list(range(11, 16))
    assert (rows.bar_loss != rows.loss).all()


def test_step_0_is_the_heads_end_by_the_averages_and_another_loss_by_the_batch(few_digits):
    row = article.BAR.row(few_digits, "step 0", "mobilenet_v2_glyphs", 0.0, 0.0, 0).iloc[0]
    train = tl.load_dataset("digits").train  # 96 digits: three batches
    model = recipes.article_head(few_digits).model
    result = tl.evaluate(train.labels, model.predict(train.images, verbose=0), tuple("0123456789"))
    assert row.val_loss == pytest.approx(result.loss, rel=1e-4)
    assert row.loss > row.val_loss + 0.1
    assert row.epoch == 10


def test_the_head_goes_at_a_rate_of_its_own(few_digits, monkeypatch):
    asked = []

    def look(*_, compiling, **how):
        asked.append(compiling)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "train_behind", look)
    with pytest.raises(KeyboardInterrupt):
        article.BAR.row(few_digits, "head", "mobilenet_v2_glyphs", 0.001, 0.01, 0)
    (adam,), steps = asked[0].args, asked[0].keywords
    rates = dict(zip(adam.groups, adam.multipliers.numpy() * adam.learning_rate.numpy(), strict=True))
    assert rates.pop("head") == pytest.approx(0.01)
    assert [*rates.values()] == pytest.approx([0.001, 0.001])
    assert steps == {"steps": 1}
