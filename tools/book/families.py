"""The table of families of networks, from ``book/measured/families.csv``, on a page of the library's."""

from __future__ import annotations

import re
import string

import pandas as pd

PAGE = "book/reference/library/families"
TITLES = {"keras": "keras.applications", "keras-hub": "keras-hub"}
HEAD = ["| Network | Cuts | Train | Once | Export | Explain |", "|---|---|---|---|---|---|"]


def as_page(table: pd.DataFrame) -> str:
    """A table for each library, and the words of each refusal."""
    letters: dict[str, str] = {}

    def shown(cell: str) -> str:
        if not cell.startswith("refuses: "):
            return {"works": "yes", "not tried": ""}.get(cell, cell)
        words = re.split(r", got |, [\d.]", cell.removeprefix("refuses: "))[0]
        return letters.setdefault(words, string.ascii_letters[len(letters)])

    lines = []
    tried = table[table.cuts != "not tried"]
    for library, rows in tried.groupby("library"):
        version = rows.iloc[0]["keras_hub" if library == "keras-hub" else "keras"]
        lines += ["", f"## {TITLES[str(library)]}", "", f"Version {version}.", ""]
        lines += [":::{table}", ":class: run-times", "", *HEAD]
        for each in rows.to_dict("records"):
            cuts = each["cuts"] if each["split"] == "works" else shown(each["split"])
            ends = [shown(each[column]) for column in ("freeze", "once", "export", "explain")]
            lines.append(f"| {' | '.join([each['family'].removesuffix('Backbone'), cuts, *ends])} |")
        lines.append(":::")
    left = sorted(table.family[table.cuts == "not tried"].str.removesuffix("Backbone"))
    lines += ["", f"Not tried, for want of a tiny configuration: {', '.join(left)}.", ""]
    lines += [
        "## What the letters say",
        "",
        *(f"- **{letter}**: {words}" for words, letter in letters.items()),
    ]
    stamp = table.iloc[0]
    return "\n".join([*lines, "", f"Measured: {stamp.date}, {stamp.machine}, {stamp.commit}.", ""])
