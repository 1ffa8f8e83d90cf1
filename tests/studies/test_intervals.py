"""Intervals cover seeds and test examples; answers survive packing."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from tlhelpers.studies import intervals


def simulated(rng, *, seeds, examples, spread, hardness):
    """Answers of one way: each seed has its skill, each example its hardness."""
    skill, hard = rng.normal(0, spread, (seeds, 1)), hardness * rng.normal(size=examples)
    return rng.random((seeds, examples)) < expit(2 + skill + hard)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.05, 0.4])
def test_an_interval_covers_other_seeds_and_other_examples(seeds, spread):
    rng = np.random.default_rng(seeds)
    kind = {"examples": 300, "spread": spread, "hardness": 1.5}
    truth = simulated(rng, seeds=5000, **{**kind, "examples": 5000}).mean()
    found = [intervals.interval(simulated(rng, seeds=seeds, **kind)) for _ in range(400)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= 0.995


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_an_interval_of_paired_differences_holds_zero_where_there_is_none(seeds):
    rng = np.random.default_rng(seeds)
    kind = {"examples": 300, "spread": 0.3, "hardness": 1.5, "seeds": seeds}
    found = []
    for _ in range(400):
        one, other = (simulated(rng, **kind).astype(float) for _ in range(2))
        found.append(intervals.interval(one - other))
    assert 0.92 <= np.mean([low <= 0 <= high for low, high in found]) <= 0.995


@pytest.mark.parametrize("seeds", [(3, 3), (3, 5)])
def test_an_interval_of_several_data_sets_covers_their_mean(seeds):
    """Two data sets that share nothing, the second one with two cases that share its examples."""
    rng = np.random.default_rng(sum(seeds))

    def answers(n, examples, hard):
        skill = rng.normal(0, 0.3, (n, 1))
        return rng.random((n, examples)) < expit(2 + skill + hard)

    def draw(n, examples):
        one, other = (1.5 * rng.normal(size=examples) for _ in range(2))
        return answers(n[0], examples, one), [answers(each, examples, other) for each in n]

    truth = answers(5000, 5000, 1.5 * rng.normal(size=5000)).mean()
    found = [intervals.interval(*draw(seeds, 300)) for _ in range(400)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= 0.995


def test_data_sets_count_alike_and_what_they_share_counts_once():
    rng = np.random.default_rng(0)
    right = (rng.random((2, 4, 100)) < [[[0.9]], [[0.5]]]).astype(float)
    low, high = intervals.interval(right[0], right[1][:3, :50])
    assert (low + high) / 2 == pytest.approx((right[0].mean() + right[1][:3, :50].mean()) / 2)
    # Cases that share their examples: the mean of those is one case, where no seed differs.
    alike = np.repeat(right[:, :1], 4, axis=1)
    np.testing.assert_allclose(intervals.interval([*alike]), intervals.interval(alike.mean(axis=0)))
    apart = intervals.interval(alike[0], alike[0])
    together = intervals.interval([alike[0], alike[0]])
    assert np.ptp(apart) == pytest.approx(np.ptp(together) / 2**0.5, rel=0.02)
    # The seeds of cases are other draws: they average out, though their number differs.
    seeds = np.repeat(rng.normal(size=(5, 1)), 50, axis=1)
    width = np.ptp(intervals.interval([seeds, seeds[:3]]))
    assert width < np.ptp(intervals.interval(seeds[:3]))
    with pytest.raises(ValueError, match=r"right: expected \(seeds, examples\) .* got \(1, 50\)"):
        intervals.interval([seeds, seeds[:1]])


def test_each_source_of_chance_counts():
    """By hand: where only seeds differ it is Student's over the seeds, where only examples do, over these."""
    over_seeds = np.repeat([[0.0], [1.0], [2.0]], 50, axis=1)
    np.testing.assert_allclose(
        intervals.interval(over_seeds), 1 + np.array([-1, 1]) * 4.3027 / 3**0.5, rtol=1e-4
    )
    np.testing.assert_allclose(intervals.interval(over_seeds.T), intervals.interval(over_seeds))
    assert intervals.interval(np.ones((3, 4))) == (1, 1)
    for shape in ((4,), (1, 4), (4, 1)):
        with pytest.raises(ValueError, match=r"right: expected \(seeds, examples\)"):
            intervals.interval(np.ones(shape))


def test_answers_survive_packing_and_the_table(tmp_path):
    right = np.random.default_rng(0).random(37) < 0.5
    pd.DataFrame([{"right": intervals.pack(right)}]).to_csv(tmp_path / "t.csv")
    read = pd.read_csv(tmp_path / "t.csv").right[0]
    np.testing.assert_array_equal(intervals.right_answers(read), right)
    for broken in ("12", "3xq0", "12xa0", 37):
        with pytest.raises(ValueError, match="right: expected a number, an x and hexadecimal digits"):
            intervals.right_answers(broken)
