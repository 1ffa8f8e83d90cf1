"""The sentence encoder: one tensor at each cut, padding that changes nothing, text that can't be encoded."""

import contextlib
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from packaging.version import Version

import tlhelpers as tl
from tlhelpers import encoders

keras_hub = pytest.importorskip("keras_hub", reason="needs the extra 'text'")
stored_arrays = pytest.importorskip("safetensors.numpy", reason="needs the extra 'text'")

SHORT, LONG = "the soup is good", "our waiter was useless and i find the table looks ugly in the ending"


@pytest.fixture(scope="module")
def tiny():
    return encoders.load_encoder("tiny")


def plain_mean(backbone, token_ids):
    """The definition: the backbone as its makers wrote it, then the mean over the tokens."""
    real = (token_ids != 0).astype("int32")
    given = {"token_ids": token_ids, "segment_ids": 0 * token_ids, "padding_mask": real}
    states = np.asarray(backbone(given, training=False)["sequence_output"])
    return (states * real[..., None]).sum(axis=1) / real.sum(axis=1, keepdims=True)


def test_it_computes_what_the_backbone_does(tiny):
    keras.utils.set_random_seed(0)
    shape = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64}
    words = 5 + len(encoders.STAND_IN_WORDS)
    backbone = keras_hub.models.BertBackbone(words, dropout=0.0, max_sequence_length=64, **shape)
    token_ids = tiny.tokenize([SHORT, LONG], length=24)
    expected = plain_mean(backbone, token_ids)
    np.testing.assert_allclose(tiny.model(token_ids, training=False), expected, atol=1e-5)
    np.testing.assert_allclose(encoders.pooled_blocks(tiny, [SHORT, LONG])[:, -1], expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # nothing after the cut trains
def test_each_block_is_a_cut_point_and_the_parts_make_the_whole(tiny):
    assert tl.cut_points(tiny.model) == ["embeddings", *tiny.blocks]
    token_ids = tiny.tokenize([SHORT, LONG], length=24)
    for at in ("embeddings", tiny.blocks[0]):
        prefix, suffix = tl.split(tiny.model, at=at)
        in_two = suffix(prefix(token_ids, training=False), training=False)
        np.testing.assert_allclose(in_two, tiny.model(token_ids, training=False), atol=1e-6)


def test_padding_changes_nothing(tiny):
    narrow, wide = (tiny.model(tiny.tokenize([SHORT], length=length), training=False) for length in (6, 40))
    np.testing.assert_allclose(narrow, wide, atol=1e-6)
    alone = encoders.pooled_blocks(tiny, [SHORT])
    beside = encoders.pooled_blocks(tiny, [f"{LONG} {LONG}", SHORT])  # padded to different lengths
    np.testing.assert_allclose(beside[1:], alone, atol=1e-6)


def test_two_loads_share_what_was_computed_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    for encoder in (tiny, encoders.load_encoder("tiny")):
        encoders.pooled_blocks(encoder, [SHORT])
    assert len(list((tmp_path / "features").rglob("*.npy"))) == 1


def test_a_text_with_the_word_for_padding_is_read_to_its_end(tiny):
    text = "good " + "[PAD] " * 20 + "bad"
    token_ids = tiny.tokenize([text], length=32)
    assert (token_ids[0, 16:] != 0).any()
    expected = tiny.model.predict(token_ids, verbose=0)
    np.testing.assert_allclose(encoders.pooled_blocks(tiny, [text])[:, -1], expected, atol=1e-6)


def test_what_is_too_long_is_cut_and_said(tiny):
    whole = tiny.tokenize([LONG], length=30)[0]
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 8 tokens: what goes beyond is cut"):
        cut = tiny.tokenize([SHORT, LONG], length=8)
    assert cut.dtype == np.int32
    assert cut[1].tolist() == [*whole[:7], whole[whole != 0][-1]]  # and the closing token is kept
    assert cut[0, 6:].tolist() == [0, 0]
    for length in (1, 65):
        with pytest.raises(ValueError, match=f"length: expected 2 to 64, got {length}"):
            tiny.tokenize([SHORT], length=length)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("good", TypeError, "expected a list of texts, got str. Put a single text in brackets"),
        ([], ValueError, "expected at least one, got none"),
        (["good", "\n\t "], ValueError, "expected at least one word in each, got an empty one at 1"),
        (["good", b"bad"], TypeError, r"expected text, got bytes at 1. Decode it first"),
        ([None], TypeError, "expected text, got NoneType at 0"),
        (pd.DataFrame({"text": ["good", "bad"]}), TypeError, r"got DataFrame\. .* name the column"),
        ({"good": "bad"}, TypeError, "expected a list of texts, got dict"),
        ({"good", "bad"}, TypeError, "expected a list of texts, got set"),
        (["good", "\0"], ValueError, "expected at least one word in each, got an empty one at 1"),
        ((text for text in ["good"]), TypeError, "expected a list of texts, got generator"),
        (["good \ud83d"], ValueError, "expected whole letters, got half of one at 0"),
    ],
)
def test_what_is_no_text_is_refused(tiny, texts, error, message):
    with pytest.raises(error, match=message):
        encoders.embed(tiny, texts)


def test_unknown_words_are_texts(tiny):
    assert np.isfinite(encoders.embed(tiny, ["Ünïcode \U0001f600 \x96 zzz"])).all()


def test_words_that_say_what_is_missing(monkeypatch):
    with pytest.raises(LookupError, match="unknown encoder 'minilm'"):
        encoders.load_encoder("minilm")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"need keras_hub, .* pip install -e '.\[text\]'"):
        encoders.load_encoder("tiny")


def test_arrays_get_the_names_that_every_reader_knows(tmp_path):
    names = {
        "embeddings.word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.weight": "bert.embeddings.LayerNorm.gamma",
        "encoder.layer.0.output.LayerNorm.bias": "bert.encoder.layer.0.output.LayerNorm.beta",
        "encoder.layer.0.output.dense.bias": "bert.encoder.layer.0.output.dense.bias",
    }
    config, weights = tmp_path / "settings", tmp_path / "model.safetensors"
    config.write_text('{"model_type": "bert"}')
    stored_arrays.save_file({old: np.array([i], np.float32) for i, old in enumerate(names)}, weights)
    with encoders._with_bert_names(config, weights) as folder:
        renamed = stored_arrays.load_file(folder / "model.safetensors")
        assert (folder / "config.json").read_text() == config.read_text()
    assert sorted(renamed, key=lambda new: renamed[new].item()) == list(names.values())
    assert not folder.exists()


def test_the_real_encoder_is_its_makers(full_data):
    folder = full_data / encoders.MINILM
    if not folder.is_dir():
        pytest.skip(f"needs {encoders.MINILM} in TLHELPERS_DATA")
    encoder = encoders.load_encoder()
    texts = ["The mic is great.", "Québec? I DIDN'T like it \x96 at all...", "Naïve  café"]
    token_ids = encoder.tokenize(texts, length=24)
    # An older keras-hub can't read the makers' own folder.
    reads_it = Version(keras_hub.__version__) >= Version("0.30")
    renamed = encoders._with_bert_names(folder / "config.json", folder / "model.safetensors")
    with contextlib.nullcontext(folder) if reads_it else renamed as preset:
        backbone = keras_hub.models.BertBackbone.from_preset(str(preset), dropout=0.0)
    np.testing.assert_allclose(
        encoder.model(token_ids, training=False), plain_mean(backbone, token_ids), atol=1e-5
    )
    long = " ".join(texts * 6)  # more than the 64 tokens that the stand-in has positions for
    whole = encoder.model(encoder.tokenize([long], length=200), training=False)
    np.testing.assert_allclose(encoders.pooled_blocks(encoder, [long])[:, -1], whole, atol=1e-5)

    import tokenizers

    official = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    official.no_padding()
    for text, row in zip(texts, token_ids, strict=True):
        assert official.encode(text).ids == row[row != 0].tolist()
