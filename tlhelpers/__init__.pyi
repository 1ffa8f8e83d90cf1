from . import (
    backbones,
    cache,
    datasets,
    decoders,
    downloads,
    encoders,
    evaluation,
    explain,
    features,
    freezing,
    fused,
    images,
    plots,
    prefix,
)
from .backbones import load_backbone, preparation
from .datasets import load_dataset
from .encoders import load_encoder
from .evaluation import confident_mistakes, evaluate, history_table, linear_probe
from .features import precompute
from .freezing import freeze, parts, refresh_batch_norm, unchanged
from .fused import fuse
from .prefix import cut_points, split
from .studies.strategies import estimate_similarity, recommend_strategy

__all__ = [
    "backbones",
    "cache",
    "confident_mistakes",
    "cut_points",
    "datasets",
    "decoders",
    "downloads",
    "encoders",
    "estimate_similarity",
    "evaluate",
    "evaluation",
    "explain",
    "features",
    "freeze",
    "freezing",
    "fuse",
    "fused",
    "history_table",
    "images",
    "linear_probe",
    "load_backbone",
    "load_dataset",
    "load_encoder",
    "parts",
    "plots",
    "precompute",
    "prefix",
    "preparation",
    "recommend_strategy",
    "refresh_batch_norm",
    "split",
    "unchanged",
]
