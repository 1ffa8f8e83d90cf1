"""What several chapters compare looks the same in all of them."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import seaborn as sns

from tlhelpers import page, plots
from tlhelpers.page import editions


@pytest.fixture(autouse=True)
def _as_it_was():
    with mpl.rc_context():
        yield
    plots.set_styles({})


def test_names_are_those_of_the_tables() -> None:
    columns = {"curve": "method", "race": "contestant", "growth": "side", "limits": "way"}
    columns["applications"] = "method"
    shown = {name for table, column in columns.items() for name in page.measured(table)[column].dropna()}
    assert set(page.STYLES) - {"pixels"} <= shown  # "Say what transfer is" computes its table itself


def test_a_chapter_s_figures_have_them() -> None:
    editions._set_figures()
    table = pd.DataFrame({"x": [1, 2], "y": [1, 2], "method": "from scratch"})
    line = plots.lines(table, x="x", y="y", hue="method").lines[0]
    assert line.get_marker() == "^"


def test_the_rivals_in_credit_differ_in_lightness() -> None:
    editions._set_figures()
    names = ["fine-tuned", "from scratch", "logistic regression", "gradient boosting"]
    table = pd.DataFrame({"x": [1] * 4, "y": range(4), "method": names})
    handles = plots.lines(table, x="x", y="y", hue="method").get_legend().legend_handles
    light = [sns.utils.relative_luminance(handle.get_color()) for handle in handles]
    assert np.diff(sorted(light[1:])).min() > 0.05  # the three lines that lie close together
    assert abs(light[0] - light[2]) > 0.2  # brown and orange
