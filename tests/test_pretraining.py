"""The packaged backbone: no digit in its data, a whole file, and gains that can be measured again."""

import json
import unicodedata
from pathlib import Path

import keras
import numpy as np
import pytest

from pretraining import check, glyphs, train


@pytest.fixture(scope="module")
def drawn() -> glyphs.GlyphSet:
    """Two of the fonts are enough here; drawing them takes seconds."""
    return glyphs.draw_glyphs(("DejaVuSans", "DejaVuSansMono"))


@pytest.fixture(scope="module")
def packaged() -> keras.Model:
    """The backbone with the weights of the package's file."""
    return train.set_weights(train.fresh_backbone())


def test_no_number_may_be_drawn() -> None:
    characters = [chr(code) for low, high in glyphs.RANGES for code in range(low, high + 1)]
    kept = "".join(c for c in characters if glyphs.allowed(c, "DejaVuSans"))
    folded = kept + unicodedata.normalize("NFKD", kept)
    assert "A" in folded
    assert [part for part in folded if unicodedata.category(part) in ("Nd", "Nl", "No")] == []


def test_no_drawing_covers_a_digit(drawn: glyphs.GlyphSet) -> None:
    font = glyphs.open_font("DejaVuSans")
    shapes = drawn.edge[np.array(drawn.fonts) == "DejaVuSans"] > 0
    for digit in glyphs.DIGITS:
        clean = glyphs.clean_drawing(font, digit)
        assert clean is not None
        assert glyphs.overlap(clean, shapes).max() < glyphs.DIGIT_OVERLAP
    assert not {"O", "З", "I"} & set(drawn.characters)
    assert {"A", "R", "k", "Ж", "Ω"} <= set(drawn.characters)
    classes = dict(zip(drawn.characters, drawn.labels.tolist(), strict=True))
    assert classes["A"] == classes["\N{GREEK CAPITAL LETTER ALPHA}"] != classes["R"]


def test_thinning_leaves_a_line_in_one_piece() -> None:
    bar = np.zeros((1, 20, 20), bool)
    bar[0, 3:17, 7:13] = True
    thin = glyphs.thin(bar)[0]
    assert 0 < thin.sum(1).max() <= 2
    assert 6 <= thin.any(1).sum() <= 14
    assert not (thin & ~bar[0]).any()


def test_images_follow_from_the_seed(drawn: glyphs.GlyphSet) -> None:
    (first, labels), (again, same), (other, _) = (train.draw_images(drawn, 64, seed=s) for s in (1, 1, 2))
    assert (first.dtype, first.shape) == (np.uint8, (64, glyphs.SIDE, glyphs.SIDE))
    assert (first == again).all()
    assert (labels == same).all()
    assert (first != other).any()
    assert (first.max((1, 2)) > 100).mean() > 0.9  # there is ink on almost every image


def test_enlarging_is_what_keras_does() -> None:
    small = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    wanted = np.asarray(keras.ops.image.resize(small, (32, 32), interpolation="bilinear"))[0, ..., 0]
    matrix = glyphs.enlarge_matrix(8, 32)
    np.testing.assert_allclose(matrix @ small[0, ..., 0] @ matrix.T, wanted, atol=1e-5)


def test_the_file_is_small_half_precision_and_whole(packaged: keras.Model) -> None:
    assert train.WEIGHTS.stat().st_size < 1_000_000
    with np.load(train.WEIGHTS) as file:
        arrays = dict(file)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in arrays.values())
    found = train.weights_of(packaged)
    assert found.keys() == arrays.keys()
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, arrays[name])


def test_what_float16_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(b"old")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.weights[0].assign([[1e6]])
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="float16"):
        train.write(model, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_figures_are_of_these_weights(packaged: keras.Model) -> None:
    """Pooled, each contender at the place its figures name, the first seed."""
    pixels, images, labels = check.target_digits()
    labelled, validation, test = check.split(labels, 0)
    assert sorted(np.concatenate([labelled, validation, test])) == list(range(len(labels)))
    contenders = json.loads(check.FIGURES.read_text())["pooled"]["contenders"]
    seed = check.SEEDS[0]
    features = {"raw": pixels if contenders["raw"]["at"] == "8x8" else images[..., 0]}
    for who, backbone in (("pretrained", packaged), ("random", check.random_backbone(seed))):
        views = check.features_of(backbone, images, (contenders[who]["at"],))
        features[who] = next(values for _, view, values in views if view == "pooled")
    for who, values in features.items():
        _, accuracy = check.read_out(values, labels, seed)
        # Another machine moves a few digits.
        assert accuracy == pytest.approx(contenders[who]["test"][0], abs=0.01), who


def test_the_figures_keep_the_promise_and_the_card_tells_them() -> None:
    figures = json.loads(check.FIGURES.read_text())
    for view, claims in check.CLAIMED.items():
        contenders = figures[view]["contenders"]
        for found in contenders.values():
            assert found["test_mean"] == pytest.approx(np.mean(found["test"]), abs=1e-4)
        for other, least in claims.items():
            best = max(contenders[other]["best_on_test"]["mean"], contenders[other]["test_mean"])
            assert contenders["pretrained"]["test_mean"] - best >= least
    card = check.CARD.read_text()
    assert check.table(figures) in card
    assert check.recipe(json.loads(check.RUN.read_text())) in card
