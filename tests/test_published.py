"""Published results: found by edition, compared within tolerance, never on the wrong side of a claim."""

import math
import tomllib

import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import published

EDITIONS = {
    "full": tl.editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test"),
    "pocket": tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test"),
}
NAMES = list(tomllib.loads((published._book() / "published.toml").read_text()))


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_value_agrees_and_one_beyond_the_tolerance_does_not(name, edition, capsys):
    entry = published.result(name, edition=EDITIONS[edition])
    assert len(entry.seeds) >= 3
    assert entry.tolerance > 0
    assert published.check(name, entry.value, edition=EDITIONS[edition]) == entry.value
    assert "agrees" in capsys.readouterr().out
    for beyond in (entry.value + 1.01 * entry.tolerance, entry.value - 1.01 * entry.tolerance, math.nan):
        with pytest.raises(published.Disagreement, match=f"{name} .*expected .* within .* got"):
            published.check(name, beyond, edition=EDITIONS[edition])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("head_validation_accuracy", "refreshed_validation_accuracy"),
        ("refreshed_test_accuracy", "the article"),
        ("our_test_accuracy", "the article"),
    ],
)
def test_competing_values_do_not_pass_for_one_another(one, other):
    # The claims of the full edition: fine-tuning beats the frozen head, and ends above the article.
    full = EDITIONS["full"]
    entry = published.result(one, edition=full)
    if other == "the article":
        rival, room = published.ARTICLE_TEST["accuracy"], 0.0
    else:
        other_entry = published.result(other, edition=full)
        rival, room = other_entry.value, other_entry.tolerance
    with pytest.raises(published.Disagreement):
        published.check(one, rival, edition=full)
    assert entry.tolerance + room <= abs(entry.value - rival) * 1.001


def test_the_frozen_phase_lands_within_half_a_point_of_the_article():
    ours = published.result("head_validation_accuracy", edition=EDITIONS["full"]).value
    assert abs(ours - 0.6732) < 0.005


def test_unknown_names_and_missing_editions_say_so():
    with pytest.raises(LookupError, match="did you mean 'refreshed_test_accuracy'"):
        published.result("refreshed_test_acuracy", edition=EDITIONS["full"])
    with pytest.raises(LookupError, match="unknown measured table 'fine_tunin'"):
        published.measured("fine_tunin")


def test_the_tolerance_rule():
    assert published.tolerance([0.5, 0.5, 0.5], examples=100) == pytest.approx(2 * 0.05)
    assert published.tolerance([0.4, 0.5, 0.6]) == pytest.approx(0.3)
    assert published.tolerance([0.4, 0.5, 0.6], gap=0.1) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least three seeds, got 2"):
        published.tolerance([0.4, 0.5])


def test_published_values_follow_from_the_measured_table():
    table = published.measured("fine_tuning").query("train_from == 100 and epoch == 15")
    for name, edition in EDITIONS.items():
        runs = table[table.edition == name]
        entry = published.result("refreshed_test_accuracy", edition=edition)
        assert entry.value == pytest.approx(runs.refreshed_test_accuracy.mean(), rel=1e-4)
        assert sorted(runs.seed) == list(entry.seeds)


def test_the_measured_table_has_three_choices_and_a_stamp():
    table = published.measured("fine_tuning")
    for name in EDITIONS:
        assert table[table.edition == name].train_from.nunique() == 3
    assert table[["commit", "date", "machine"]].notna().all(axis=None)
    assert (table.groupby(["edition", "train_from", "seed"]).epoch.nunique() == 15).all()


def test_the_articles_figures():
    article = published.article_history()
    assert list(article.epoch) == list(range(1, 16))
    assert article.set_index("epoch").val_accuracy[[10, 11, 15]].tolist() == [0.6732, 0.1437, 0.8488]


def test_one_row_of_the_measured_table_is_measured_again(monkeypatch):
    """Another row as the project moves on: the library's own source chooses it. Pocket rows take seconds."""
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    table = published.measured("fine_tuning").query("edition == 'pocket' and epoch == 15")
    row = table.iloc[int(tl.cache.library_digest(), 16) % len(table)]
    pocket = EDITIONS["pocket"]
    tuned = tl.recipes.article_fine_tuned(pocket, train_from=int(row.train_from), seed=int(row.seed))
    data = tl.load_dataset("digits")
    tl.refresh_batch_norm(tuned.model, data.train.images)
    probabilities = tuned.model.predict(data.test.images, verbose=0)
    now = tl.evaluate(data.test.labels, probabilities, data.class_names)
    # Both are draws, so they may differ by twice what one may differ from the mean.
    allowed = 2 * published.result("refreshed_test_accuracy", edition=pocket).tolerance
    assert abs(now.accuracy - row.refreshed_test_accuracy) <= allowed


def test_what_is_too_dear_for_a_page_is_not_measured_again():
    rows = pd.DataFrame(
        {
            "method": ["cheap"] * 3 + ["dear"] * 3,
            "seed": [0, 1, 2] * 2,
            "test_accuracy": 0.9,
            "cpu_seconds": [1.0, 1.0, 1.0, 1.0, 1.0, 99.0],
        }
    )
    found = {
        limit: {
            published.check_one(
                rows, lambda row: (0.9, 100), like=["method"], most_seconds=limit, which=which
            ).method[0]
            for which in range(6)
        }
        for limit in (None, 10)
    }
    assert found == {None: {"cheap", "dear"}, 10: {"cheap"}}
