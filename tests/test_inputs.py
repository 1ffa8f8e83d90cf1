"""Inputs of a wrong kind are refused in one form, and the right ones give the same however they are kept.

A few hundred drawn ones here, always the same; `make nightly ONLY=inputs` draws thousands of others.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import tlhelpers as tl
from tlhelpers import backbones, decoders, encoders, evaluation, explain, images, plots
from tlhelpers.studies import credit, strategies

try:
    import tensorflow as tf
except ModuleNotFoundError:  # Keras on another backend
    tf = None
MANY = int(os.environ.get("INPUTS", "150"))
drawn = settings(
    max_examples=MANY,
    derandomize=MANY == 150,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)
FORM = re.compile(r"(unknown [\w ]+ .*: expected one of )|([^:]{1,60}: expected .*, got )", re.DOTALL)

# -- values that are none of what is asked for ------------------------------------------------------


def none_of_all() -> list[Any]:
    """What no function takes for an array, a list of texts, a table or a number."""
    return [
        None,
        object(),
        list,
        len,
        1j,
        datetime.date(2020, 1, 1),
        {},
        {"a": 1},
        {1, 2},
        frozenset(["a", "b"]),
        (each for each in [0, 1]),
        [[1, 2], [3]],
        [[0.5, 0.5], None],
        [{}],
        np.array(["2020-01-01", "2021-01-01"], "datetime64[D]"),
        np.array([1 + 2j, 3]),
        np.array([None, 1], object),
        np.zeros(2, [("a", int)]),
        np.ma.masked_equal([0, 1, 1, 2], 1),
        scipy.sparse.csr_array(np.eye(4)),
        scipy.sparse.coo_array(np.array([0, 1, 0, 1])),
        pd.DataFrame({"a": ["x", "y"]}),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", 1, None]),
        *([tf.ragged.constant([[1, 2], [3]]), tf.sparse.from_dense(np.eye(3))] if tf else []),
        keras.KerasTensor((2, 3)),
        np.datetime64("NaT"),
        b"",
        b"bytes",
    ]


anything = st.deferred(lambda: st.integers(0, len(none_of_all()) - 1).map(lambda i: none_of_all()[i]))
no_number = st.one_of(
    anything, st.text(), st.just([]), st.just([1]), st.just(np.nan), st.just(True), st.just(np.array([1, 2]))
)
dtypes = st.sampled_from(["?", "<i8", "u1", "f2", "<f4", ">f8", "c8", "U3", "S2", "O", "M8[s]", "m8[s]"])


def arrays_of(shape: Any, kinds: str) -> st.SearchStrategy[Any]:
    """Arrays of a shape, of any type whose letter is none of these."""
    usable = dtypes.map(np.dtype).filter(lambda dtype: dtype.kind not in kinds)
    return usable.map(lambda dtype: np.zeros(shape, dtype))


def shapes(*ranks: int) -> st.SearchStrategy[Any]:
    """Shapes of other ranks than these, and without a single element."""
    sides = st.lists(st.integers(1, 3), max_size=6).map(tuple)
    return sides.filter(lambda shape: len(shape) not in ranks) | st.just((0,)) | st.just((0, 2, 2, 1))


def spoilt(good: Any, *values: Any) -> st.SearchStrategy[Any]:
    """The array with one of its elements replaced by one of these."""

    def put(place: int, value: Any) -> Any:
        spoilt = good.astype(np.result_type(good, type(value)))
        spoilt.flat[place] = value
        return spoilt

    return st.builds(put, st.integers(0, good.size - 1), st.sampled_from(values))


def other_lengths(good: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([good[:0], good[:1], good[:-1], np.concatenate([good, good[:1]])])


# -- kinds of input: what is wrong, and other forms of what is right --------------------------------


@dataclass(frozen=True)
class Kind:
    wrong: Callable[[Any], st.SearchStrategy[Any]]
    same: Callable[[Any], list[Any]] = lambda good: []


def forms(good: Any) -> list[Any]:
    """The same numbers, kept otherwise."""
    locked = good.copy()
    locked.setflags(write=False)
    # Every second row of an array twice as long.
    strided = np.repeat(good, 2, axis=0)[::2]
    found = [
        good.tolist(),
        tuple(good.tolist()),
        np.asfortranarray(good),
        locked,
        strided,
        good[::-1][::-1],
        good.astype(good.dtype.newbyteorder(">")),
        np.ma.masked_array(good),
        good.astype(object),
        *([tf.constant(good)] if tf else []),
        keras.ops.convert_to_tensor(good),
        list(good),
    ]
    if good.dtype.kind in "iu":
        found += [good.astype(each) for each in ("u1", "i2", ">i4", "u8")]
    if good.dtype.kind == "f":
        found += [good.astype("f4"), good.astype("g")]
    if good.ndim == 1:
        found += [pd.Series(good), pd.Series(good, index=range(9, 9 + len(good))), pd.Index(good)]
        found += [pd.array(good), pd.Series(good).astype("category")]
    if good.ndim == 2:
        found += [pd.DataFrame(good), pd.DataFrame(good).convert_dtypes(), np.asmatrix(good)]
        found += [scipy.sparse.csr_array(good)]
    return found


def labels(k: int | None) -> Kind:
    beyond = (-1, -(2**40), *([] if k is None else [k, 2**40]))
    return Kind(
        lambda good: (
            anything
            | shapes(1).map(lambda shape: np.zeros(shape, int))
            | arrays_of(good.shape, "biu")
            | other_lengths(good)
            | spoilt(good, *beyond)
            | st.sampled_from([good.astype(float), good / 2, good.astype(str), np.eye(4)[good], "0123"])
        ),
        forms,
    )


def numbers(*ranks: int, spoil: tuple[Any, ...] = (np.nan, np.inf, -np.inf), kinds: str = "biuf") -> Kind:
    return Kind(
        lambda good: (
            anything
            | shapes(*ranks).map(lambda shape: np.zeros(shape, good.dtype))
            | arrays_of(good.shape, kinds)
            | other_lengths(good)
            | spoilt(good, *spoil)
            | st.sampled_from([good.astype(str), "0.5"])
        ),
        forms,
    )


SCORES = numbers(2, spoil=(np.nan, np.inf, -0.1, 1.1, 1e300), kinds="f")
FEATURES = numbers(2, 3, 4, 5, 6, spoil=(np.nan, np.inf, 1e200))
PIXELS = Kind(
    lambda good: (
        anything
        | shapes(3, 4).map(lambda shape: np.zeros(shape, "uint8"))
        | arrays_of(good.shape, "u")
        | st.sampled_from([good / 255, good.astype(int), np.zeros((2, 5, 5, 2), "uint8"), "image.png"])
    ),
    lambda good: [form for form in forms(good) if not isinstance(form, list | tuple)],
)
SHADES = Kind(
    lambda good: (
        anything
        | shapes(3, 4).map(lambda shape: np.zeros(shape, "uint8"))
        | arrays_of(good.shape, "biuf")
        | spoilt(good.astype(float), np.nan, np.inf, -1.0, 256.0, 1e300)
        | st.sampled_from([good.astype(int) + 256, -1 - good.astype(int), np.zeros((2, 5, 5, 2)), "a.png"])
    )
)
FLAGS = Kind(
    lambda good: (
        anything
        | arrays_of(good.shape, "biu")
        | other_lengths(good)
        | spoilt(good.astype(float), 0.3)
        | st.sampled_from([good * 2, -1 * good])
    ),
    lambda good: forms(good.astype(int)),
)
TRUTHS = Kind(lambda good: anything | arrays_of(good.shape, "b") | other_lengths(good) | st.just("yes"))
TEXTS = Kind(
    lambda good: (
        anything
        | st.text()
        | st.just([])
        | st.builds(
            lambda place, what: [*good[:place], what, *good[place:]],
            st.integers(0, len(good)),
            anything | st.integers() | st.floats() | st.text(" \n\t\0\u200b\u2003\ud800", max_size=3),
        )
    ),
    lambda good: [
        tuple(good),
        np.array(good),
        np.array(good, object),
        pd.Series(good, index=range(5, 5 + len(good))),
        pd.Series(good, dtype="string"),
        pd.Index(good),
        dict.fromkeys(good).keys(),
        *([tf.constant(good)] if tf else []),
        pd.Categorical(good),
    ],
)
NAMES = Kind(
    lambda good: anything | st.text() | st.sampled_from([[], good[:1], [*good, good[0]], set(good)]),
    TEXTS.same,
)
SOME_NAMES = Kind(lambda good: anything | st.text() | st.sampled_from([[], set(good)]))
CUTS = Kind(lambda good: anything | st.text() | st.lists(st.text(), min_size=1))
STYLES = Kind(lambda good: anything.filter(lambda each: not isinstance(each, dict)) | st.just({"a": 7}))


def whole(least: int | None, most: int | None = None) -> Kind:
    beyond = [-(10**30)] if least is None else [least - 1, -(2**63) - 1]
    beyond += [] if most is None else [most + 1, 10**30]
    return Kind(
        lambda good: no_number | st.floats() | st.sampled_from(beyond if least is not None else [1.5]),
        lambda good: [np.int64(good)],
    )


def real(least: float) -> Kind:
    return Kind(
        lambda good: no_number | st.sampled_from([np.inf, -np.inf, np.nan, least - 0.1]),
        lambda good: [np.float64(good), np.float32(good)],
    )


WORD = Kind(lambda good: anything | st.text().filter(lambda text: text != good) | st.integers())
OTHER = Kind(lambda good: anything)
SHAPE = Kind(
    lambda good: (
        anything | st.sampled_from([(5,), (9, 9, 2), (0, 9), (9.0, 9), (-1, 9), (9, 9, 3, 3), "ab", [[9], 9]])
    ),
    lambda good: [list(good), np.array(good), np.array(good, "u1"), pd.Series(good)],
)
PAIR = Kind(lambda good: anything | st.sampled_from([(1, 0), (0,), (0, 1, 2), (0, np.nan), ("a", "b"), "ab"]))


def tables(**values: list[Any]) -> Kind:
    """Tables of which each column must be there; what may not stand in it."""

    def wrong(good: Any) -> st.SearchStrategy[Any]:
        filled = [(name, value) for name, wrong in values.items() for value in wrong]
        lacking = [good.drop(columns=name) for name in values]
        twice = [pd.concat([good, good[[name]]], axis=1) for name in values]
        none = [good[:0], good.to_numpy(), good.T, good.iloc[:, 0], good.to_dict()]
        put = st.builds(
            lambda case, n: good.assign(**{case[0]: [*good[case[0]][:n], *[case[1]] * (len(good) - n)]}),
            st.sampled_from(filled),
            st.integers(0, len(good) - 1),
        )
        return anything | st.sampled_from([*none, *lacking, *twice]) | put

    def same(good: Any) -> list[Any]:
        return [
            good[good.columns[::-1]].assign(more=[[1], {}] * (len(good) // 2)),
            good.set_index(pd.Index(["a"] * len(good))),
            good.set_index(pd.date_range("2020", periods=len(good))),
            good.set_index(pd.MultiIndex.from_product([[1, 2], range(len(good) // 2)])),
            good.astype(float),
            good.astype("Int64"),
            good.astype("Float32"),
            good.astype("int8"),
            good.astype(pd.SparseDtype(int)),
            good.astype({"state": object, "default": object}),
            good.astype({"state": str, "default": bool}),
            good.astype({"state": "category", "default": "category"}),
        ]

    return Kind(wrong, same)


CREDIT = tables(
    amount=["1", True, 1j, np.inf, -np.inf, [1], {}, datetime.date(2020, 1, 1), pd.Timestamp("2020")],
    state=[],
    default=[2, -1, 0.5, np.nan, None, "1", [1], {1}, 1j, np.inf, pd.NaT, pd.Timestamp("2020"), b"1"],
)

# -- functions --------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
TRUE = np.arange(12) % 3
SOFT = rng.uniform(0.1, 1, (12, 3))
SOFT /= SOFT.sum(axis=1, keepdims=True)
SEEN = rng.normal(size=(12, 4)) + 5 * np.eye(4)[TRUE]
TWO = np.arange(100) % 2
NOISE = rng.normal(size=(100, 3))
CLEAR = NOISE + 5 * TWO[:, None]
RAW = rng.integers(0, 256, (4, 5, 5), "uint8")
WORDS = ["good film", "bad soup", "the plot"]
HISTORY = SimpleNamespace(
    history={name: [0.5, 0.25] for name in ("accuracy", "loss", "val_accuracy", "val_loss")}
)


PNG = (lambda file: Image.fromarray(RAW[0]).save(file, "PNG") or file.getvalue())(io.BytesIO())
NAMED = ["a", "b", "c"]
COUNTS = pd.DataFrame([[3, 1], [0, 4]])
PARTS = pd.DataFrame({"part": ["a"], "layers": [1], "parameters": [2], "trainable": [2]})
CURVES = evaluation.history_table(HISTORY, phase="frozen")
CREDIT_COLUMNS = credit.Columns(("amount",), ("state",), "default")
LOANS = pd.DataFrame({"amount": range(8), "state": [1, 2] * 4, "default": [0, 0, 1, 1] * 2})


@functools.cache
def classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(2, 2, name="maps"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((5, 5, 1)), *layers, keras.layers.Dense(3, activation="softmax")])


@functools.cache
def encoder() -> Any:
    """One without a network, since keras-hub takes seconds to load; each text has three tokens."""
    places = SimpleNamespace(sequence_length=64)
    words = SimpleNamespace(encode_batch=lambda texts: [SimpleNamespace(ids=[1, 2, 3]) for _ in texts])
    return encoders.Encoder("none", SimpleNamespace(get_layer=lambda _: places), (), words)


@functools.cache
def decoder() -> decoders.Decoder:
    return decoders.load_decoder("tiny")


@dataclass(frozen=True)
class Call:
    """A function, and for each argument that is tried its kind and a right value."""

    function: Callable[..., Any]
    inputs: dict[str, tuple[Kind, Any]]

    def __call__(self, **changed: Any) -> Any:
        return self.function(**{name: good for name, (_, good) in self.inputs.items()} | changed)


CALLS = {
    "evaluate": Call(
        evaluation.evaluate,
        {"labels": (labels(3), TRUE), "probabilities": (SCORES, SOFT), "class_names": (NAMES, NAMED)},
    ),
    "confident_mistakes": Call(
        evaluation.confident_mistakes,
        {"labels": (labels(3), TRUE), "probabilities": (SCORES, SOFT), "class_names": (NAMES, NAMED)}
        | {"k": (whole(1), 9)},
    ),
    "history_table": Call(
        evaluation.history_table,
        {"history": (OTHER, HISTORY), "phase": (OTHER, "frozen"), "first_epoch": (whole(0), 1)},
    ),
    "bootstrap_interval": Call(
        lambda one, two, draws, seed: evaluation.bootstrap_interval(
            lambda a, b: np.mean(a * b), one, two, draws=draws, seed=seed
        ),
        {"one": (numbers(1, 2, 3, 4, 5, 6), SOFT[:, 0]), "two": (numbers(1, 2, 3, 4, 5, 6), SOFT[:, 1])}
        | {"draws": (whole(1), 9), "seed": (whole(0), 0)},
    ),
    "probe": Call(evaluation.probe, {"width": (whole(1), 4), "penalty": (real(0), 0.5)}),
    "linear_probe": Call(
        evaluation.linear_probe,
        {"train_features": (FEATURES, SEEN), "train_labels": (labels(None), TRUE)}
        | {"test_features": (FEATURES, SEEN), "test_labels": (labels(None), TRUE), "penalty": (real(0), 0.5)},
    ),
    "estimate_similarity": Call(
        tl.estimate_similarity,
        {"features": (FEATURES, CLEAR), "random_features": (FEATURES, NOISE), "labels": (labels(None), TWO)},
    ),
    "recommend_strategy": Call(
        functools.partial(tl.recommend_strategy, similarity="similar", by="classic"),
        {"n_examples": (whole(2), 60), "n_classes": (whole(2), 2)},
    ),
    "grad_cam": Call(
        lambda **given: explain.grad_cam(classifier(), at="maps", **given),
        {"images": (numbers(3, 4), RAW[..., None] / 255), "classes": (labels(3), TRUE[:4])}
        | {"batch_size": (whole(1), 2)},
    ),
    "check_images": Call(
        images.check_images,
        {"images": (PIXELS, RAW), "labels": (labels(3), TRUE[:4]), "n_classes": (whole(1), 3)},
    ),
    "read_image": Call(
        images.read_image,
        {"path": (Kind(lambda good: anything | st.just(7) | st.text()), PNG)} | {"size": (whole(1, 7000), 4)},
    ),
    "check_texts": Call(encoders.check_texts, {"texts": (TEXTS, WORDS)}),
    "tokenize": Call(
        lambda **given: encoder().tokenize(**given), {"texts": (TEXTS, WORDS), "length": (whole(2, 64), 8)}
    ),
    "load_encoder": Call(encoders.load_encoder, {"name": (WORD, "tiny")}),
    "load_decoder": Call(
        decoders.load_decoder,
        {"name": (WORD, "tiny"), "weights": (WORD, "random"), "seed": (whole(0, 2**32 - 1), 0)},
    ),
    "decoder.tokenize": Call(lambda **given: decoder().tokenize(**given), {"texts": (TEXTS, WORDS)}),
    "decoder.text": Call(
        lambda **given: decoder().text(**given),
        {"numbers": (Kind(lambda good: anything | st.just([*good, 259]) | st.just([-1])), [1, 35, 100])},
    ),
    "write": Call(
        lambda **given: decoders.write(decoder(), **given),
        {"prompt": (OTHER, "a fox"), "length": (whole(7, 512), 8)}
        | {"temperature": (real(0), 0.0), "seed": (whole(0, 2**32 - 1), 0)},
    ),
    "load_backbone": Call(
        backbones.load_backbone,
        {"name": (WORD, "mobilenet_v2_glyphs"), "image_size": (whole(32, 10_000), 32)}
        | {"weights": (WORD, "random"), "seed": (whole(0, 2**32 - 1), 0)},
    ),
    "preparation": Call(
        backbones.preparation,
        {"backbone": (WORD, "mobilenet_v2_glyphs"), "image_size": (whole(32, 10_000), 32)}
        | {"image_shape": (SHAPE, (8, 8)), "pixel_range": (PAIR, (-1, 1))},
    ),
    "small_convnet": Call(
        backbones.small_convnet,
        {"image_shape": (SHAPE, (8, 8)), "classes": (whole(1), 3), "seed": (whole(0, 2**32 - 1), 0)}
        | {"widths": (Kind(lambda good: anything | st.sampled_from([4, (4.5,), (0,), "4"])), (4, 4))},
    ),
    "feature_extractor": Call(
        functools.partial(backbones.feature_extractor, "mobilenet_v2_glyphs", (8, 8), weights="random"),
        {"cuts": (CUTS, ["block_1_expand"])},
    ),
    "plots.set_styles": Call(
        lambda places: (plots.set_styles(places), plots.set_styles({})), {"places": (STYLES, {"a": 1})}
    ),
    "plots.images": Call(
        plots.images,
        {"images": (SHADES, RAW), "captions": (NAMES, ["a", "b", "c", "d"])}
        | {"wrong": (TRUTHS, RAW[:, 0, 0] > 9), "columns": (whole(1), 3)},
    ),
    "plots.heat_maps": Call(
        plots.heat_maps,
        {"images": (SHADES, RAW), "maps": (numbers(3, spoil=(np.nan, -0.1, 1.1)), RAW / 255)},
    ),
    "plots.before_after": Call(
        plots.before_after, {"before": (numbers(3, 4), RAW), "after": (numbers(3, 4), RAW / 255)}
    ),
    "plots.embedding": Call(
        plots.embedding,
        {"points": (numbers(2), SEEN[:, :2]), "labels": (labels(3), TRUE)}
        | {"class_names": (SOME_NAMES, NAMED)},
    ),
    "plots.confusion_matrix": Call(
        plots.confusion_matrix,
        {"confusion": (Kind(lambda good: anything | st.sampled_from([good[:1], -good])), COUNTS)},
    ),
    "plots.model_diagram": Call(plots.model_diagram, {"parts": (OTHER, PARTS)}),
    "plots.learning_curves": Call(
        plots.learning_curves, {"table": (OTHER, CURVES), "metric": (WORD, "loss")}
    ),
    "plots.lines": Call(
        functools.partial(plots.lines, x="epoch", y="loss", hue="phase"), {"table": (OTHER, CURVES)}
    ),
    "credit.check_table": Call(
        functools.partial(credit.check_table, labelled=True),
        {"table": (CREDIT, LOANS), "columns": (OTHER, CREDIT_COLUMNS)},
    ),
    "credit.Columns": Call(
        credit.Columns,
        {
            name: (Kind(lambda good: anything | st.sampled_from(["a", ("c",), (1,), ("x", "x")])), good)
            for name, good in (("numbers", ("a",)), ("categories", ("b",)))
        }
        | {"label": (OTHER, "c"), "kept_back": (OTHER, ("d",))},
    ),
    "credit.cost": Call(
        credit.cost,
        {"labels": (labels(2), TWO), "flagged": (FLAGS, TWO > 0)}
        | {"miss": (real(0), 5.0), "alarm": (real(0), 1.0)},
    ),
    "credit.groups": Call(
        credit.groups,
        {"labels": (labels(2), TWO[:8]), "flagged": (FLAGS, TWO[:8] > 0)}
        | {"by": (OTHER, pd.Series(list("aabbaabb")))},
    ),
}

# What may be left out is nothing wrong.
OPTIONAL = {
    ("evaluate", "class_names"),
    ("confident_mistakes", "class_names"),
    ("grad_cam", "classes"),
    ("check_images", "labels"),
    ("check_images", "n_classes"),
    ("preparation", "pixel_range"),
    ("plots.images", "captions"),
    ("plots.images", "wrong"),
}
CASES = [(name, argument) for name, call in CALLS.items() for argument in call.inputs]


def said(error: Exception, *kinds: type[Exception]) -> str:
    """What is wrong with an error; nothing if it is of one of the kinds, and in the one form."""
    return "" if isinstance(error, kinds) and FORM.match(str(error)) else f"{type(error).__name__}: {error}"


def fault(call: Call, given: dict[str, Any]) -> str:
    """What is wrong with the way in which a function refuses; nothing if it is as promised."""
    try:
        call(**given)
    except Exception as error:
        return said(error, ValueError, TypeError, LookupError, FileNotFoundError)
    return "accepted"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@st.composite
def wrong_inputs(draw: Any) -> tuple[str, str, Any]:
    name, argument = draw(st.sampled_from(CASES))
    kind, good = CALLS[name].inputs[argument]
    value = draw(kind.wrong(good))
    assume(value is not None or (name, argument) not in OPTIONAL)
    return name, argument, value


@given(wrong_inputs())
@drawn
def test_what_is_of_a_wrong_kind_is_refused_in_one_form(case: tuple[str, str, Any]) -> None:
    name, argument, value = case
    with quiet():
        assert not fault(CALLS[name], {argument: value}), (name, argument, value)


def assert_same(found: Any, expected: Any) -> None:
    """Two results that say the same, but for the rounding of float32."""
    match expected:
        case pd.DataFrame():
            pd.testing.assert_frame_equal(
                found.reset_index(drop=True), expected.reset_index(drop=True), rtol=1e-4, check_dtype=False
            )
        case evaluation.Evaluation() | strategies.Similarity():
            for name, value in vars(expected).items():
                assert_same(getattr(found, name), value)
        case keras.Model():
            assert found.output_shape == expected.output_shape
        case np.ndarray() | float() | int() | tuple():
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        case _:
            assert str(found) == str(expected)


KEPT = [
    (name, argument, number)
    for name, call in CALLS.items()
    if not name.startswith("plots.")
    for argument, (kind, good) in call.inputs.items()
    for number in range(len(kind.same(good)))
]


@functools.cache
def answer(name: str) -> Any:
    return CALLS[name]()


@given(st.sampled_from(KEPT))
@drawn
def test_the_same_kept_in_another_way_gives_the_same_or_is_refused(case: tuple[str, str, int]) -> None:
    name, argument, number = case
    kind, good = CALLS[name].inputs[argument]
    with quiet():
        form = kind.same(good)[number]
        try:
            found = CALLS[name](**{argument: form})
        except (TypeError, ValueError) as error:
            assert FORM.match(str(error)), (name, argument, form)  # noqa: PT017
        else:
            assert_same(found, answer(name))


# -- files of images --------------------------------------------------------------------------------


@functools.cache
def files() -> list[bytes]:
    """A small picture in every format and mode that this Pillow writes."""
    Image.init()
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), "uint8")
    found = []
    for form in sorted({*images.IMAGE_FORMATS, "PPM", "TGA", "ICO"} & {*Image.SAVE}):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
            for options in ({}, {"compression": "tiff_lzw"}, {"save_all": True}):
                file, picture = io.BytesIO(), Image.fromarray(noise)
                with contextlib.suppress(Exception):  # not every format has every mode
                    grey = picture.convert("L") if mode in ("I;16", "I", "F") else picture
                    grey.convert(mode).save(file, form, **options)
                    found.append(file.getvalue())
    return list(dict.fromkeys(found))


@st.composite
def damaged_files(draw: Any) -> bytes:
    content = draw(st.sampled_from(files()))
    places = st.integers(0, len(content))
    match draw(st.sampled_from(["bytes", "early bytes", "cut", "joined", "repeated", "whole"])):
        case "cut":
            return content[: draw(places)]
        case "joined":
            at = draw(st.integers(0, 64))
            return content[:at] + draw(st.sampled_from(files()))[at:]
        case "repeated":
            first, last = sorted([draw(places), draw(places)])
            return content[:last] + content[first:]
        case "whole":
            return content
        case which:
            most = len(content) if which == "bytes" else min(len(content), 128)
            damaged = bytearray(content)
            for place in draw(st.lists(st.integers(0, most - 1), min_size=1, max_size=8)):
                damaged[place] = draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
            return bytes(damaged)


def read(content: Any) -> str:
    """What is wrong with what comes of an image file; nothing if it is as promised."""
    try:
        found = images.read_image(content, size=8)
    except Exception as error:
        return said(error, ValueError)
    return "" if (found.shape, found.dtype) == ((8, 8, 3), np.uint8) else f"{found.dtype} {found.shape}"


@given(damaged_files())
@drawn
def test_a_damaged_file_gives_a_picture_or_the_one_error(content: bytes) -> None:
    with quiet():
        assert not read(content)
