from . import (
    backbones,
    cache,
    curve,
    datasets,
    downloads,
    editions,
    encoders,
    evaluation,
    freezing,
    ladder,
    plots,
    prefix,
    published,
    recipes,
    sentiment,
    strategies,
    unfreezing,
)
from .backbones import load_backbone, preparation
from .datasets import load_dataset
from .editions import start_chapter
from .evaluation import confident_mistakes, evaluate, history_table, linear_probe
from .freezing import freeze, parts, refresh_batch_norm, unchanged
from .prefix import cut_points, precompute, split
from .strategies import estimate_similarity, recommend_strategy, regret

__all__ = [
    "backbones",
    "cache",
    "confident_mistakes",
    "curve",
    "cut_points",
    "datasets",
    "downloads",
    "editions",
    "encoders",
    "estimate_similarity",
    "evaluate",
    "evaluation",
    "freeze",
    "freezing",
    "history_table",
    "ladder",
    "linear_probe",
    "load_backbone",
    "load_dataset",
    "parts",
    "plots",
    "precompute",
    "prefix",
    "preparation",
    "published",
    "recipes",
    "recommend_strategy",
    "refresh_batch_norm",
    "regret",
    "sentiment",
    "split",
    "start_chapter",
    "strategies",
    "unchanged",
    "unfreezing",
]
