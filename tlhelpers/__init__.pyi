from . import (
    backbones,
    cache,
    datasets,
    downloads,
    editions,
    evaluation,
    freezing,
    plots,
    prefix,
    published,
    recipes,
)
from .backbones import load_backbone, preparation
from .datasets import load_dataset
from .editions import start_chapter
from .evaluation import confident_mistakes, evaluate, history_table, linear_probe
from .freezing import freeze, parts, refresh_batch_norm, unchanged
from .prefix import cut_points, precompute, split

__all__ = [
    "backbones",
    "cache",
    "confident_mistakes",
    "cut_points",
    "datasets",
    "downloads",
    "editions",
    "evaluate",
    "evaluation",
    "freeze",
    "freezing",
    "history_table",
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
    "refresh_batch_norm",
    "split",
    "start_chapter",
    "unchanged",
]
