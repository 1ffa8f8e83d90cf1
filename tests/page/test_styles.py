"""What several chapters compare looks the same in all of them."""

import matplotlib as mpl
import pandas as pd
import pytest

from tlhelpers import page, plots
from tlhelpers.page import editions


@pytest.fixture(autouse=True)
def _as_it_was():
    with mpl.rc_context():
        yield
    plots.set_styles({})


def test_names_are_those_of_the_tables() -> None:
    columns = {"curve": "method", "race": "contestant", "growth": "side", "limits": "way"}
    shown = {name for table, column in columns.items() for name in page.measured(table)[column].dropna()}
    assert set(page.STYLES) - {"pixels"} <= shown  # "Say what transfer is" computes its table itself


def test_a_chapter_s_figures_have_them() -> None:
    editions._set_figures()
    table = pd.DataFrame({"x": [1, 2], "y": [1, 2], "method": "from scratch"})
    line = plots.lines(table, x="x", y="y", hue="method").lines[0]
    assert line.get_marker() == "^"
