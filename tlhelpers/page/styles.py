"""How the book's contestants look in every chart: one colour, marker and dash for each."""

__all__ = ["STYLES"]

STYLES = {
    "frozen": 0,
    "ours": 0,
    "fine-tuned": 1,
    "article, plain": 2,
    "plain": 2,
    "raw pixels": 3,
    "pixels": 3,
    "from scratch": 4,
    "network from scratch": 4,
    "small network, from scratch": 4,
    "article, prefix once": 6,
    "prefix once": 6,
    "logistic regression": 5,
    "gradient boosting": 6,
}
"""What several chapters compare, with its place among the styles of `tlhelpers.plots.set_styles`.

Names of one kind share a style. What only one picture compares gets a style that is left.
"""
