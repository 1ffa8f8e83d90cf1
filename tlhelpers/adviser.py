"""The adviser on the book's page: the controls, and the answers that they look up.

The page's script holds no rule of its own: `controls` hands it every answer of the library, the examples
a class between which each holds, and the library's words for questions that have none.
"""

import html
import json
import math
from typing import Any

import pandas as pd

from . import published, strategies

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
    """HTML of the adviser: its controls, hidden until the page's script shows them, and its answers.

    Without that script, as in Colab, nothing of it is seen.

    Parameters
    ----------
    table
        What `tlhelpers.strategies.advice_table` gives.
    n_examples, n_classes
        The question that the controls begin with.

    Returns
    -------
    str
        One ``<div class="freezing-adviser">``, to be shown with IPython's ``HTML``. The answers lie in it as
        JSON.

    Notes
    -----
    Explained in the chapter "Choose what to freeze".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> page = tl.adviser.controls(tl.strategies.advice_table(), n_examples=60, n_classes=5)
    >>> page.splitlines()[0]
    '<div class="freezing-adviser">'
    """
    answer = ["similarity", "from", "to", "strategy", "learning_rate", "why"]
    answers: list[dict[str, Any]] = []
    for _, cases in table.groupby(answer, sort=False):
        found = dict(cases.iloc[0][answer])
        # JSON knows no infinity.
        found["to"] = None if math.isinf(found["to"]) else found["to"]
        answers.append({**found, "measured": [measured_words(case) for _, case in cases.iterrows()]})
    ladder = published.measured("ladder")
    runs = ladder.loc[ladder.edition == strategies.EDITION, ["date", "machine"]].drop_duplicates()
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
    """What was measured in one case, in words.

    Parameters
    ----------
    case
        A row of `tlhelpers.strategies.advice_table`.

    Returns
    -------
    str

    Notes
    -----
    Explained in the chapter "Choose what to freeze".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> case = {
    ...     "data": "mnist",
    ...     "labels": 100,
    ...     "classes": 10,
    ...     "accuracy": 0.887,
    ...     "low": 0.873,
    ...     "high": 0.9,
    ...     "learning_rate": 0.1,
    ...     "measured_rate": 0.1,
    ...     "seconds": 36.4,
    ... }
    >>> tl.adviser.measured_words(pd.Series(case))
    'mnist, 100 labels, 10 classes: 88.7 % of the test images right (95 % interval 87.3 to 90.0),
    trained in 36 seconds'
    """
    rate = ""
    if case["measured_rate"] != case["learning_rate"]:
        rate = f", at a learning rate of {case['measured_rate']}"
    right, low, high = (f"{100 * case[name]:.1f}" for name in ("accuracy", "low", "high"))
    return (
        f"{case['data']}, {case['labels']} labels, {case['classes']} classes: {right} % of the test images "
        f"right (95 % interval {low} to {high}), trained in {case['seconds']:.0f} seconds{rate}"
    )
