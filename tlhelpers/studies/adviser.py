"""The adviser on the book's page: the controls, and the answers that they look up.

The page's script holds no rule of its own: `controls` hands it every answer of the library, the examples
a class between which each holds, and the library's words for questions that have none. Explained in the
chapter "Choose what to freeze".
"""

import html
import json
import math
from typing import Any

import pandas as pd

from tlhelpers import page

from . import strategies

__all__ = ["controls", "measured_words"]

_MARKUP = """\
<div class="freezing-adviser">
<fieldset hidden>
<legend>Your data</legend>
<label>Labelled examples
<input name="n_examples" inputmode="numeric" autocomplete="off" value="{examples}"></label>
<label>Classes
<input name="n_classes" inputmode="numeric" autocomplete="off" value="{classes}"></label>
<label>Compared with the source
<select name="similarity">{options}</select></label>
</fieldset>
<div class="advice" aria-live="polite"></div>
<script type="application/json">{answers}</script>
</div>"""


def controls(table: pd.DataFrame, *, n_examples: int, n_classes: int) -> str:
    """HTML of the adviser: its controls, hidden until the page's script shows them, and its answers as JSON.

    `table` is what `tlhelpers.studies.strategies.advice_table` gives; the numbers are those of the question
    that the controls begin with. Without that script, as in Colab, nothing of it is seen.
    """
    answer = ["similarity", "from", "to", "strategy", "learning_rate", "why"]
    answers: list[dict[str, Any]] = []
    for _, cases in table.groupby(answer, sort=False):
        found = dict(cases.iloc[0][answer])
        # JSON knows no infinity.
        found["to"] = None if math.isinf(found["to"]) else found["to"]
        answers.append({**found, "measured": [measured_words(case) for _, case in cases.iterrows()]})
    cells = page.measured("freezing_map")
    runs = cells.loc[cells.edition == strategies.EDITION, ["date", "machine"]].drop_duplicates()
    given = {
        "whole": strategies.WHOLE,
        "least": strategies.LEAST,
        "answers": answers,
        "stamp": "Measured " + "; ".join(f"{run.date} on {run.machine}" for run in runs.itertuples()),
    }
    options = "".join(f"<option>{html.escape(kind)}</option>" for kind in table.similarity.drop_duplicates())
    return _MARKUP.format(
        examples=n_examples,
        classes=n_classes,
        options=options,
        # Inside <script> nothing is unescaped, so that "</script>" must not occur.
        answers=json.dumps(given, allow_nan=False).replace("<", "\\u003c"),
    )


def measured_words(case: "pd.Series[Any]") -> str:
    """What was measured in one case, a row of `tlhelpers.studies.strategies.advice_table`, in words."""
    rate = ""
    if case["measured_rate"] != case["learning_rate"]:
        rate = f", at a learning rate of {case['measured_rate']}"
    right, low, high = (f"{100 * case[name]:.1f}" for name in ("accuracy", "low", "high"))
    return (
        f"{case['data']}, {case['labels']} labels, {case['classes']} classes: {right} % of the test images "
        f"right (95 % interval {low} to {high}), {case['seconds']:.1f} processor seconds for one fit{rate}"
    )
