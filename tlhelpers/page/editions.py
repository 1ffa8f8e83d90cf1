"""Which edition of the book runs here, decided once and said aloud.

The *full* edition takes MNIST and MobileNetV2 pre-trained on ImageNet; the *pocket* edition takes
the digits inside scikit-learn and a small backbone inside this package, and needs no network.
``TLHELPERS_EDITION`` is ``full``, ``pocket`` or ``auto`` (the default).
"""

import contextlib
import functools
import gc
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from tlhelpers import cache, downloads
from tlhelpers._errors import unknown_name

from ._glue import glue
from .styles import STYLES

__all__ = ["Edition", "EditionError", "current", "smoke_test", "start_chapter"]

FULL_FILES = ("mnist.npz", "mobilenet_v2_1.00_224_no_top.h5")
RUN = "run"  # the facts of a run are glued under this name, for the page that shows it
PROBE_AUTO_S = 3.0  # a reader without network waits this long at the top of a chapter
PROBE_FULL_S = 15.0  # who asks for the full edition gives a slow network more time


class EditionError(RuntimeError):
    """The edition that was asked for can't be had: the message says what was tried and what to do."""


@dataclass(frozen=True)
class Edition:
    """An edition of the book, and why it was chosen.

    `dataset` and `backbone` are names for :func:`tlhelpers.datasets.load_dataset` and
    :func:`tlhelpers.backbones.load_backbone`. `reason` is part of a sentence, without a path of this machine.
    """

    name: Literal["full", "pocket"]
    dataset: str
    backbone: str
    reason: str


def _full(reason: str) -> Edition:
    return Edition("full", "mnist", "mobilenet_v2_imagenet", reason)


def _pocket(reason: str) -> Edition:
    return Edition("pocket", "digits", "mobilenet_v2_glyphs", reason)


def current() -> Edition:
    """Decide which edition runs here.

    What ``TLHELPERS_EDITION`` names; for ``auto``, full where both of its files are on this machine
    (``TLHELPERS_DATA``, then the cache) or their official host answers within 3 s, else pocket. Decided
    once per process, and again when one of the three environment variables changes.

    Raises
    ------
    LookupError, EditionError, tlhelpers.downloads.DownloadError
        No such edition; ``full`` was asked for and can't be had; the mirror folder holds wrong content.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> import os, unittest.mock
    >>> with unittest.mock.patch.dict(os.environ, TLHELPERS_EDITION="pocket"):
    ...     current().name, current().dataset
    ('pocket', 'digits')
    """
    asked = os.environ.get("TLHELPERS_EDITION", "") or "auto"
    if asked not in ("auto", "full", "pocket"):
        raise unknown_name("edition in TLHELPERS_EDITION", asked, ["auto", "full", "pocket"])
    return _decide(asked, os.environ.get("TLHELPERS_DATA"), os.environ.get("TLHELPERS_CACHE"))


@functools.cache
def _decide(asked: str, _data: str | None, _cache: str | None) -> Edition:
    """Settle it by looking in the three places; what this machine's folders are is part of the question."""
    if asked == "pocket":
        return _pocket("asked for by TLHELPERS_EDITION")
    how = "asked for by TLHELPERS_EDITION, " if asked == "full" else ""
    missing = [name for name in FULL_FILES if downloads.find(name) is None]
    if not missing:
        return _full(f"{how}files found on this machine and checked")
    urls = [downloads.RESOURCES[name].urls[0] for name in missing]
    trouble = _probe(urls, PROBE_FULL_S if asked == "full" else PROBE_AUTO_S)
    what = " and ".join(missing)
    if not trouble:
        return _full(f"{how}{what} can be downloaded from the official address")
    if asked == "auto":
        return _pocket(f"{what} not on this machine, and {trouble}")
    mirror = downloads.data_folder()
    raise EditionError(
        f"TLHELPERS_EDITION=full: expected {what}, found none of it. Tried\n"
        f"  the mirror folder: {mirror or 'TLHELPERS_DATA is not set'}\n"
        f"  the cache folder: {cache.cache_folder()}\n"
        f"  the official address: {trouble}\n"
        "Connect to the network, or name a folder that holds the files in TLHELPERS_DATA, or set "
        "TLHELPERS_EDITION=pocket for the edition that needs neither."
    )


def _probe(urls: list[str], limit_s: float) -> str:
    """Ask for the heads of all ``urls``; give the first trouble in words, or "" where all answer."""
    import requests

    answers: list[str] = []

    def ask() -> None:
        for url in urls:
            host = urlsplit(url).hostname
            try:
                response = requests.head(url, timeout=limit_s, allow_redirects=True)
            except (requests.RequestException, OSError):  # OSError: a file of certificates that is not there
                answers.append(f"{host} can't be reached")
                return
            if response.status_code != 200:
                answers.append(f"{host} answered HTTP {response.status_code}")
                return
        answers.append("")

    # Where packets vanish, name resolution alone can hang for minutes and takes no time limit. So a
    # thread of its own asks, and is left behind when the time is over.
    asking = threading.Thread(target=ask, name="edition probe", daemon=True)
    asking.start()
    asking.join(limit_s)
    return answers[0] if answers else f"{urlsplit(urls[0]).hostname} did not answer within {limit_s:g} s"


def start_chapter(title: str | None = None, *, seed: int = 0) -> Edition:
    """Begin a chapter: seed, set the look of figures, and print what runs here.

    Prints two lines, the first of them begun by `title`, and in the full edition a third that names the
    variant of the weights. The same facts are glued as one record, from which the page's card is made.
    `seed` is for Python, numpy and Keras. Gives, and fails, as :func:`current`.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> edition = start_chapter("Prepare the data set")  # doctest: +SKIP
    Prepare the data set: pocket edition (digits, mobilenet_v2_glyphs), asked for by TLHELPERS_EDITION.
    tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6, Python 3.11.9; seed 0.
    """
    edition = current()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is loaded, or it is too late
    with _nothing_to_collect():
        import keras
        import numpy as np

        from tlhelpers import _backend, _graph

        backend = _backend.module()
        _set_figures()

    _graph.feed_arrays_plainly()
    keras.utils.set_random_seed(seed)
    opening = f"{title}: {edition.name}" if title else edition.name.capitalize()
    print(f"{opening} edition ({edition.dataset}, {edition.backbone}), {edition.reason}.")
    versions = {module.__name__: module.__version__ for module in (backend, keras, np)}
    versions["Python"] = platform.python_version()
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; seed {seed}.")
    if weights := downloads.describe(FULL_FILES[1]) if edition.name == "full" else None:
        print(f"{weights}.")
    facts = {"edition": edition.name, "dataset": edition.dataset, "backbone": edition.backbone}
    glue(RUN, json.dumps({**facts, "versions": versions, "seed": seed, "weights": weights}))
    return edition


def smoke_test(edition: Edition, stand_in: str) -> Any:
    """A banner for a chapter whose data the pocket edition has not: what runs instead, and what it is worth.

    `stand_in` is what takes the data's place, as it stands after "This run uses". In the full edition there
    is no banner: None, which shows nothing.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> full = Edition("full", "mnist", "mobilenet_v2_imagenet", "an example")
    >>> smoke_test(full, "two photos that scikit-learn brings along") is None
    True
    """
    if edition.name == "full":
        return None
    from IPython.display import Markdown

    return Markdown(  # type: ignore[no-untyped-call]
        f"> **Smoke test.** The pocket edition has not this chapter's data. This run uses {stand_in}, to "
        "show that the code works. Its numbers mean nothing and are published nowhere."
    )


@contextlib.contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """Load Keras and its backend without Python's search for unreachable objects: a fifth of the time.

    What was loaded stays for good, so later searches leave it out, too. In a kernel where it is loaded
    already, such as one where a chapter runs a second time, nothing is done: old models must go.
    """
    if "keras" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _set_figures() -> None:
    """One look for all chapters: white grid, colours that colour-blind readers can tell, sharp lines."""
    import matplotlib as mpl
    import seaborn as sns

    from tlhelpers import plots

    plots.set_styles(STYLES)
    sns.set_theme(style="whitegrid", palette="colorblind")
    mpl.rcParams.update({"figure.figsize": (5.0, 3.6), "figure.constrained_layout.use": True})
    # What a chapter draws by itself has the sizes of tlhelpers.plots.
    mpl.rcParams.update(dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 11))
    mpl.rcParams.update(dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 10))
    mpl.rcParams.update({"legend.frameon": False, "legend.title_fontsize": 10})
    mpl.rcParams["svg.hashsalt"] = "tlhelpers"  # the same figure gives the same bytes
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # Photographs inside a figure have twice the pixels that a plain screen shows.
        mpl.rcParams["image.composite_image"] = False
        set_matplotlib_formats("svg", dpi=192)  # type: ignore[no-untyped-call]
