"""What code hands to the prose of its page."""

from matplotlib.figure import Figure


def glue(name: str, value: float | int | str | Figure) -> None:
    """Offer a value to the prose of the page, under a name. Without myst-nb, as in Colab, do nothing.

    For settings, counts and values of a stamped table; a result of this run goes through `check`, which
    glues it, too. A figure can stand above the cell that draws it, by the directive ``{glue:figure} name``.

    Examples
    --------
    >>> from tlhelpers import page
    >>> page.glue("n_test", 10_000)
    """
    try:
        import IPython
        import myst_nb
    except ModuleNotFoundError:
        return
    if IPython.get_ipython() is not None:
        myst_nb.glue(name, value, display=False)
