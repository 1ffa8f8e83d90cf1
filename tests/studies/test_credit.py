"""Credit tables: what is refused, what stands for what is missing, who learns from which rows."""

import dataclasses
import pickle
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tlhelpers import page
from tlhelpers.studies import credit

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
COLUMNS = credit.Columns(("amount", "age"), ("state",), "default", ("sex",))


def table(n=200, **changes):
    """A sound table; `changes` replace its columns."""
    rng = np.random.default_rng(0)
    columns = {
        "amount": rng.integers(0, 10_000, n),
        "age": rng.uniform(20, 70, n),
        "state": np.arange(n) % 2,
        "sex": 1 + np.arange(n) % 2,
        "default": (np.arange(n) % 4 == 0).astype(int),
    }
    return pd.DataFrame(columns | changes)


@pytest.fixture(scope="module")
def data():
    return credit.load_segments(POCKET)


@pytest.fixture
def short(monkeypatch):
    """Let networks try one rate each, and boosting one setting."""
    monkeypatch.setattr(credit, "RATES", dict.fromkeys(credit.RATES, (0.003,)))
    for name, value in {"LEAVES": 4, "LEAF_ROWS": 5, "TREES": 30}.items():
        monkeypatch.setattr(credit, name, (value,))
    credit._pretrained.cache_clear()
    yield
    credit._pretrained.cache_clear()


# -- what is refused -----------------------------------------------------------------------------


WRONG = (
    (table().drop(columns="amount"), ValueError, "expected the column 'amount', got no such column"),
    (table().drop(columns="state"), ValueError, "expected the column 'state', got no such column"),
    (table().drop(columns="default"), ValueError, "expected the column 'default', got no such column"),
    (pd.concat([table(), table()[["age"]]], axis=1), ValueError, "expected the column 'age', got 2 of them"),
    (table(amount="12,000"), TypeError, r"'amount': expected numbers, got .* \(as '12,000'\)"),
    (table(amount=True), TypeError, "'amount': expected numbers, got bool"),
    (table(age=np.inf), ValueError, "'age': expected finite numbers, got infinity"),
    (table(age=np.nan), ValueError, "'age': expected some values, got missing ones alone"),
    (table(state=None), ValueError, "'state': expected some values, got missing ones alone"),
    (table(default=2), ValueError, r"'default': expected 0 \(repaid\) or 1 \(default\), got .*2"),
    (table(default=[np.nan] + [1] * 199), ValueError, "'default': expected 0 .* got .*nan"),
    (table().iloc[:0], ValueError, "expected at least one row, got none"),
    (table().to_numpy(), TypeError, "expected a pandas.DataFrame, got ndarray"),
    (pd.DataFrame({"amount;state": ["1;a"]}), ValueError, "with sep, since its one column is 'amount;state'"),
)


@pytest.fixture(scope="module")
def prepared():
    """Fitted on a sound table; neither that nor one row of it gives a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = credit.preparation(COLUMNS).fit(table())
        assert fitted.transform(table(1)).shape == (1, 4)  # without what is kept back
    return fitted


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_a_table_that_is_none_is_refused_when_fitting_and_when_scoring(wrong, error, message, prepared):
    with pytest.raises(error, match=message):
        credit.check_table(wrong, COLUMNS, labelled=True)
    if "'default'" not in message:
        with pytest.raises(error, match=message):
            prepared.transform(wrong)


# -- what stands for what ------------------------------------------------------------------------


def test_a_missing_number_becomes_the_median_of_the_rows_fitted_on(prepared):
    client = table(1)
    expected = prepared.transform(client.assign(amount=float(table().amount.median())))
    with pytest.warns(UserWarning, match=r"missing values in amount \(1\)\. The median"):
        got = prepared.transform(pd.concat([client.assign(amount=np.nan), table(5)]))[:1]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert abs(got[0, 0]) < 0.05  # the middle of all ranks


def test_missing_and_unseen_categories_count_as_rare_ones(prepared):
    fitted_on = table(400, state=["a"] * 190 + ["b"] * 190 + ["c"] * 15 + ["d"] * 5)
    with_rare = credit.preparation(COLUMNS).fit(fitted_on)
    with pytest.warns(UserWarning, match=r"missing values in state \(1\)"):
        codes = with_rare.transform(table(4, state=["c", "d", "never seen", None]))[:, 2:]
    assert codes.tolist() == [[0, 0, 1]] * 4
    assert with_rare.transform(table(1, state="a"))[:, 2:].tolist() == [[1, 0, 0]]
    # Where none was rare when fitting, there is no such column.
    assert prepared.transform(table(1, state=7))[:, 2:].tolist() == [[0, 0]]


@pytest.mark.parametrize("code", [1, 1.0, np.int8(1), "1"])
def test_a_code_is_the_same_in_any_type_and_beside_any_other(prepared, code):
    assert prepared.transform(table(1, state=[code]))[:, 2:].tolist() == [[0, 1]]
    beside = [[code, 1.5], np.array([code, "x"], dtype=object), [code, 1e20]]
    assert [credit.check_table(table(2, state=each), COLUMNS).state.iloc[0] for each in beside] == ["1"] * 3


def test_other_columns_in_another_order_change_nothing_nor_does_keeping(prepared):
    expected = prepared.transform(table(9))
    other = table(9).assign(note="x", sex=9)[["note", "default", "sex", "state", "age", "amount"]]
    assert (prepared.transform(other) == expected).all()
    assert (pickle.loads(pickle.dumps(prepared)).transform(table(9)) == expected).all()
    assert expected.dtype == np.float32


def test_extreme_amounts_stay_in_bounds(prepared):
    assert prepared.transform(table(2, amount=[-1e12, 1e12]))[:, 0].tolist() == [-3, 3]


# -- segments ------------------------------------------------------------------------------------


def test_no_client_is_in_two_parts(data):
    target = [data.train, data.validation, data.test]
    everything = pd.concat([data.source, data.source_validation, *target])
    assert len(everything) == everything.index.nunique() == 569
    assert np.ptp([part["default"].mean() for part in target]) < 0.02


def test_segments_are_split_unless_they_share_a_client_or_lack_a_column():
    with pytest.raises(ValueError, match="expected different clients, got 200 index labels that are in both"):
        credit.segments(table(), table(), COLUMNS)
    other = table().set_index(np.arange(1000, 1200))
    with pytest.raises(ValueError, match="expected the column 'age'"):
        credit.segments(table(), other.drop(columns="age"), COLUMNS)
    parts = credit.segments(table(), other, COLUMNS, validation=40, test=60)
    lengths = [len(part) for part in (parts.source_validation, parts.train, parts.validation, parts.test)]
    assert lengths == [40, 100, 40, 60]


@pytest.mark.usefixtures("full_data")
def test_the_real_segments():
    data = credit.load_segments(FULL)
    target = pd.concat([data.train, data.validation, data.test])
    assert set(target["EDUCATION"]) == {3}
    assert len(target) == 4_917
    assert len(data.source) + len(data.source_validation) == 24_615
    assert set(data.columns.kept_back) <= set(target)
    seen = {*data.columns.numbers, *data.columns.categories}
    assert not seen & {"SEX", "MARRIAGE", "AGE", "EDUCATION", "default"}
    german = credit.load_german(FULL)
    assert (len(german), german["default"].sum()) == (1_000, 300)
    assert set(credit.GERMAN.numbers) | set(credit.GERMAN.categories) <= set(german)


# -- methods -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("method", credit.METHODS)
def test_every_method_scores_and_never_asks_the_test_rows(data, method):
    fitted = credit.fit(data, method, 50)
    scores = fitted.predict(data.test)
    assert ((scores >= 0) & (scores <= 1)).all()
    # Tumours are told apart easily; anything that learned from mixed-up rows would fall behind.
    assert roc_auc_score(data.test["default"], scores) > 0.85
    assert fitted.validation == roc_auc_score(data.validation["default"], fitted.predict(data.validation))


def test_the_choice_is_made_on_validation(data):
    upside_down = data.validation.assign(default=1 - data.validation["default"])
    other = dataclasses.replace(data, validation=upside_down)
    honest, fooled = (credit.fit(d, "logistic regression", 50) for d in (data, other))
    assert honest.validation > 0.9
    assert fooled.validation < 0.2
    assert honest.choice != fooled.choice


def test_the_choice_has_the_highest_area_under_the_curve(data, monkeypatch):
    chosen = credit.fit(data, "logistic regression", 20)
    areas = {}
    for penalty in credit.INVERSE_PENALTIES:
        monkeypatch.setattr(credit, "INVERSE_PENALTIES", (penalty,))
        areas[f"C {penalty:g}"] = credit.fit(data, "logistic regression", 20).validation
    assert chosen.validation == areas[chosen.choice] == max(areas.values()) > min(areas.values())
    monkeypatch.setitem(credit.RATES, "from scratch", (1e-6, 0.01))
    assert credit.fit(data, "from scratch", 50).choice.startswith("rate 0.01, epoch ")


def test_of_equal_settings_the_first_wins(data):
    """Fifty rows make no tree of more than four leaves with twenty rows each, whatever is allowed."""
    assert credit._boosted(*rows(data), rows=(20,))[1].startswith("4 leaves of 20 rows or more")


def rows(data):
    return *credit._rows(data, data.train.iloc[:50]), credit._rows(data, data.validation)


@pytest.mark.usefixtures("short")
def test_frozen_keeps_the_hidden_layers_and_leaves_the_pretrained_network_alone(data):
    pretrained = credit._pretrained(data, 0)
    before = [weight.copy() for weight in pretrained.get_weights()]
    first = credit.fit(data, "source only", 50).predict(data.test)
    for method in ("frozen", "fine-tuned", "from scratch"):
        assert not np.allclose(credit.fit(data, method, 50).predict(data.test), first)
    for old, new in zip(before, pretrained.get_weights(), strict=True):
        assert (old == new).all()
    assert (credit.fit(data, "source only", 20).predict(data.test) == first).all()
    # Frozen is a logistic regression on what comes out of the last hidden layer.
    hidden = keras.Model(pretrained.input, pretrained.get_layer("hidden_2").output)
    x, y, held = rows(data)
    score, _ = credit._frozen(pretrained, x, y, held)
    states, held_states = (hidden.predict(each, verbose=0) for each in (x, held[0]))
    outer, _ = credit._logistic(states, y, (held_states, held[1]))
    np.testing.assert_allclose(score(held[0]), outer(held_states), atol=1e-5)


@pytest.mark.usefixtures("short")
def test_a_method_repeats_itself_whatever_ran_before(data):
    once = credit.fit(data, "from scratch", 20).predict(data.test)
    credit.fit(data, "fine-tuned", 50, seed=1)
    assert (credit.fit(data, "from scratch", 20).predict(data.test) == once).all()
    assert (credit.fit(data, "from scratch", 20, seed=1).predict(data.test) != once).any()
    drawn = [credit.fit(data, "logistic regression", 20, seed=s).predict(data.test) for s in (0, 1)]
    assert (drawn[0] != drawn[1]).any()


def test_unknown_methods_and_too_many_labels(data):
    with pytest.raises(LookupError, match=r"unknown method 'frozn'.*did you mean 'frozen'"):
        credit.fit(data, "frozn", 50)
    with pytest.raises(ValueError, match=rf"labels: expected 10 to {len(data.train)}, got 5000"):
        credit.fit(data, "frozen", 5000)


# -- figures -------------------------------------------------------------------------------------


def test_costs():
    labels, flagged = [1, 1, 1, 0, 0], [0, 0, 1, 1, 0]
    assert credit.cost(labels, flagged) == pytest.approx((5 + 5 + 1) / 5)
    assert credit.cost(labels, flagged, miss=1, alarm=10) == pytest.approx((1 + 1 + 10) / 5)
    with pytest.raises(
        ValueError, match=r"labels: expected 2 whole numbers, one for each example, got int64 \(5,\)"
    ):
        credit.cost(labels, [1, 0])
    with pytest.raises(ValueError, match="miss: expected a finite number of 0 or more, got -1"):
        credit.cost(labels, flagged, miss=-1)


def test_groups():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    flagged = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 1])
    by = pd.Series(["a"] * 8 + ["b"] * 2)
    found = credit.groups(labels, flagged, by)
    assert found.loc["a", ["clients", "defaults", "flagged", "sensitivity"]].tolist() == [8, 0.5, 0.5, 0.75]
    assert found.loc["a", "sensitivity_low"] < 0.75 < found.loc["a", "sensitivity_high"]
    assert found.loc["b", ["clients", "flagged"]].tolist() == [2, 0.5]
    assert np.isnan(found.loc["b", "sensitivity"])
    turned = by.astype(pd.CategoricalDtype(["b", "never", "a"]))
    assert credit.groups(labels, flagged, turned).index.tolist() == ["b", "a"]
    with pytest.raises(ValueError, match="a group for each of 10 clients, got Series"):
        credit.groups(labels, flagged, by[:9])
