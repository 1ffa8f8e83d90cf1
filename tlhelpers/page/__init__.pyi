from . import editions, points, published, styles, web
from .editions import Edition, current, smoke_test, start_chapter
from .published import (
    ARTICLE_TEST,
    Disagreement,
    article_history,
    check,
    glue,
    measured,
    origin,
    result,
    stamp,
    tolerance,
)
from .styles import STYLES

__all__ = [
    "ARTICLE_TEST",
    "STYLES",
    "Disagreement",
    "Edition",
    "article_history",
    "check",
    "current",
    "editions",
    "glue",
    "measured",
    "origin",
    "points",
    "published",
    "result",
    "smoke_test",
    "stamp",
    "start_chapter",
    "styles",
    "tolerance",
    "web",
]
