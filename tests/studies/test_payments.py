"""Simulated payments: what is told is what comes out, and no feature knows the future."""

import numpy as np
import pandas as pd
import pytest

from tlhelpers.studies import payments

FAR = payments.habits(1, 1)


@pytest.fixture(scope="module")
def some():
    return payments.simulate(payments.habits(0, 0), seed=0, cards=300, days=30)


def test_dials_go_from_the_source_to_the_far_end():
    near, half, far = (payments.habits(dial, dial) for dial in (0, 0.5, 1))
    assert near["a day"] == 1
    assert half["a day"] == pytest.approx(0.8)
    assert far["thief's sum"] == pytest.approx(-0.3)
    clients, fraud = payments.habits(1, 0), payments.habits(0, 1)
    assert {name for name in near if clients[name] != near[name]} == set(payments.CLIENTS)
    changed = {name for name in near if fraud[name] != near[name]}
    assert changed == set(payments.FRAUD) - {"test"}  # whose share is the same


def test_a_portfolio_does_what_it_was_told(some):
    assert some.time.is_monotonic_increasing
    assert some.time.between(0, 30, inclusive="left").all()
    genuine = some[some.kind == 0]
    assert len(genuine) == pytest.approx(300 * 30, rel=0.15)
    assert np.log(genuine.amount).mean() == pytest.approx(3, abs=0.2)
    assert genuine.online.mean() == pytest.approx(0.2, abs=0.05)  # a few go anywhere
    kinds = some[some.kind > 0].kind.value_counts(normalize=True)
    assert kinds[1] == pytest.approx(0.5, abs=0.1)
    assert (some.kind > 0).sum() / 30 == pytest.approx(30, rel=0.25)
    assert some[some.kind >= 2].online.all()
    far = payments.simulate(FAR, seed=0, cards=300, days=30)
    assert far[far.kind == 3].shape[0] > some[some.kind == 3].shape[0]
    assert far[far.kind == 1].amount.median() < far[far.kind == 0].amount.median()
    assert some[some.kind == 1].amount.median() > some[some.kind == 0].amount.median()


def test_a_seed_repeats_itself_and_another_differs(some):
    told = payments.habits(0, 0)
    pd.testing.assert_frame_equal(payments.simulate(told, seed=0, cards=300, days=30), some)
    assert len(payments.simulate(told, seed=1, cards=300, days=30)) != len(some)


def test_no_feature_knows_the_future_nor_whether_it_is_fraud(some):
    before, whole = some[some.time < 12], payments.features(some)
    np.testing.assert_allclose(payments.features(before), whole[some.time < 12], atol=1e-4)
    assert payments.features(some.assign(kind=1 - some.kind)).equals(whole)
    assert np.isfinite(whole.to_numpy()).all()
    assert set(whole.dtypes) == {np.dtype("float32")}


def test_features_by_hand():
    table = pd.DataFrame(
        {
            "time": [0.5, 0.52, 1.5, 9.0],
            "card": [7, 7, 3, 7],
            "shop": [90, 2, 90, 90],
            "amount": np.exp([1.0, 2.0, 3.0, 6.0]),
            "kind": 0,
            "online": [False, True, False, False],
            "x": [0.0, 0.9, 0.7, 0.3],
            "y": [0.0, 0.9, 0.0, 0.4],
        }
    )
    found = payments.features(table)
    assert found["amount over the card's"].tolist() == pytest.approx([1, 1, 3, 4.5])
    assert found["amount over the shop's"].tolist() == pytest.approx([1, 2, 2, 4])
    counts = {
        "card, last hour": [0, 1, 0, 0],
        "card, last week": [0, 1, 0, 0],
        "card in this shop": [0, 0, 0, 1],
    }
    for name, expected in counts.items():
        assert np.expm1(found[name]).tolist() == pytest.approx(expected)
    assert np.expm1(found["shop, last week"]).tolist() == pytest.approx([0, 0, 1, 0])
    assert found["away from the card's places"].tolist() == pytest.approx([0, 0, 0, 0.5])
    assert np.exp(found["since the card's last"]).tolist() == pytest.approx(
        [30.001, 0.021, 30.001, 8.481], abs=1e-4
    )
    assert found["at the card's hours"].iloc[1] == pytest.approx(np.cos(2 * np.pi * 0.02), abs=1e-6)
