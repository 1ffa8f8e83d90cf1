"""The packaged backbone: no digit in its data, a whole file, and gains that can be measured again."""

import json
import re
import unicodedata
from pathlib import Path

import keras
import numpy as np
import pytest

from pretraining import check, glyphs, train


@pytest.fixture(scope="module")
def drawn() -> glyphs.GlyphSet:
    """Three of the fonts are enough here; drawing them takes seconds."""
    return glyphs.draw_glyphs(("DejaVuSans", "DejaVuSansMono", "cmr10"))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return check.target_digits()


def test_no_number_may_be_drawn() -> None:
    characters = [chr(code) for low, high in glyphs.RANGES for code in range(low, high + 1)]
    kept = [c for c in characters if glyphs.allowed(c, "DejaVuSans")]
    for character in kept:
        folded = character + unicodedata.normalize("NFKD", character)
        assert not re.search(r"[0-9]", folded)
        assert not any(unicodedata.category(part) in ("Nd", "Nl", "No") for part in folded)
    for number in ("7", "\N{SUPERSCRIPT TWO}", "\N{DINGBAT CIRCLED SANS-SERIF DIGIT ONE}", "½"):
        assert glyphs.is_number(number)
        assert not glyphs.allowed(number, "DejaVuSans")


def test_no_drawing_covers_a_digit(drawn: glyphs.GlyphSet) -> None:
    font = glyphs.open_font("DejaVuSans")
    shapes = drawn.edge[np.array(drawn.fonts) == "DejaVuSans"] > 0
    for digit in glyphs.DIGITS:
        clean = glyphs.clean_drawing(font, digit)
        assert clean is not None
        assert glyphs.overlap(clean, shapes).max() < glyphs.DIGIT_OVERLAP
    assert not {"O", "З", "I"} & set(drawn.characters)
    assert {"A", "R", "k", "Ж", "Ω"} <= set(drawn.characters)


def test_forms_of_a_letter_share_a_class(drawn: glyphs.GlyphSet) -> None:
    classes: dict[str, set[int]] = {}
    for character, label in zip(drawn.characters, drawn.labels, strict=True):
        classes.setdefault(character, set()).add(int(label))
    assert all(len(found) == 1 for found in classes.values())
    assert classes["A"] == classes["\N{GREEK CAPITAL LETTER ALPHA}"] != classes["R"]
    assert sorted(set(drawn.labels.tolist())) == list(range(drawn.class_count))


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
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, same)
    assert (first != other).any()
    assert (first.max((1, 2)) > 100).mean() > 0.9  # there is ink on almost every image


def test_enlarging_is_what_keras_does() -> None:
    small = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    wanted = np.asarray(keras.ops.image.resize(small, (32, 32), interpolation="bilinear"))[0, ..., 0]
    matrix = glyphs.enlarge_matrix(8, 32)
    np.testing.assert_allclose(matrix @ small[0, ..., 0] @ matrix.T, wanted, atol=1e-5)


def test_the_file_is_small_half_precision_and_whole() -> None:
    assert train.WEIGHTS.stat().st_size < 1_000_000
    backbone = train.fresh_backbone()
    wanted = {f"{layer.name}/{w.name}": tuple(w.shape) for layer in backbone.layers for w in layer.weights}
    with np.load(train.WEIGHTS) as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == wanted
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all((array >= 0).all() for name, array in arrays.items() if name.endswith("moving_variance"))
    for name, weight in train.weights_of(train.set_weights(backbone)).items():
        np.testing.assert_array_equal(weight, arrays[name])


def test_writing_comes_back_and_leaves_nothing_beside(tmp_path: Path) -> None:
    backbone = check.random_backbone(0)
    path = tmp_path / "weights.npz"
    train.write(backbone, path)
    assert [found.name for found in tmp_path.iterdir()] == ["weights.npz"]
    again = train.set_weights(check.random_backbone(1), path)
    for before, after in zip(backbone.weights, again.weights, strict=True):
        np.testing.assert_allclose(np.asarray(after), np.asarray(before), rtol=1e-3, atol=1e-6)


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(b"old")
    backbone = train.fresh_backbone()
    with monkeypatch.context() as patch:
        patch.setattr(
            np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(OSError("no space left"))
        )
        with pytest.raises(OSError, match="no space"):
            train.write(backbone, path)
    layer = backbone.get_layer("bn_Conv1")
    layer.set_weights([np.full(w.shape, 1e6, np.float32) for w in layer.weights])
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="float16"):
        train.write(backbone, path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["weights.npz"]


def test_splits_are_disjoint(digits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels = digits[2]
    for seed in check.SEEDS:
        labelled, validation, test = check.split(labels, seed)
        assert len(labelled) == 100
        assert sorted(np.concatenate([labelled, validation, test])) == list(range(len(labels)))
        np.testing.assert_array_equal(validation, check.split(labels, 0)[1])


def test_it_is_worth_transferring(digits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Pooled, each contender at the place its figures name; random weights take longer: two seeds."""
    pixels, images, labels = digits
    contenders = json.loads(check.FIGURES.read_text())["pooled"]["contenders"]
    at = {who: found["at"] for who, found in contenders.items()}
    learned = pooled(train.set_weights(train.fresh_backbone()), images, at["pretrained"])
    raw = pixels if at["raw"] == "8x8" else images[..., 0]
    found = {
        "pretrained": [check.read_out(learned, labels, seed)[1] for seed in check.SEEDS],
        "raw": [check.read_out(raw, labels, seed)[1] for seed in check.SEEDS],
        "random": [
            check.read_out(pooled(check.random_backbone(seed), images, at["random"]), labels, seed)[1]
            for seed in check.SEEDS[:2]
        ],
    }
    # The figures are of these weights, not of older ones. Another machine moves a few digits.
    for who, values in found.items():
        np.testing.assert_allclose(values, contenders[who]["test"][: len(values)], atol=0.01)
    claimed = check.CLAIMED["pooled"]
    assert np.mean(found["pretrained"][:2]) - np.mean(found["random"]) >= claimed["random"]
    assert np.mean(found["pretrained"]) - np.mean(found["raw"]) >= claimed["raw"]


def pooled(backbone: keras.Model, images: np.ndarray, cut: str) -> np.ndarray:
    return next(f for _, view, f in check.features_of(backbone, images, (cut,)) if view == "pooled")


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


def test_filling_the_card_needs_the_place() -> None:
    assert check.fill("a\n<!-- x -->\nold\n<!-- /x -->", "x", "new") == "a\n<!-- x -->\nnew\n<!-- /x -->"
    with pytest.raises(ValueError, match="expected one place marked 'x'"):
        check.fill("nothing", "x", "new")
