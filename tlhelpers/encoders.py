"""A sentence encoder of the BERT family as one Keras model that can be cut after each of its blocks.

A block needs the hidden states, and which positions are padding. Here the states at padding positions are
zero after each block, which changes no other position, since attention passes padding over. So the states
alone say what is padding (no real token's state is all zero: layer normalisation ends each block), and one
tensor crosses each cut.
"""

import contextlib
import functools
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from . import _inputs, downloads
from ._errors import check_name
from .features import precompute
from .freezing import freeze

__all__ = ["ENCODERS", "Encoder", "check_texts", "embed", "load_encoder", "pooled_blocks"]

MINILM = "all-MiniLM-L6-v2"
ENCODERS = (MINILM, "tiny")
"""Names for `load_encoder`: the sentence encoder, 22.7 M parameters; and a stand-in of random weights."""

_WORDS = (
    "bad battery cable case cast ending film find good i is looks lovely menu our perfect phone plot soup "
    "table the this ugly useless waiter was"
)
STAND_IN_WORDS = tuple(_WORDS.split())
"""All words that the stand-in encoder knows."""

LENGTHS = (16, 32, 64, 128, 256)
"""Numbers of tokens that `pooled_blocks` pads texts to, each to the least that holds it. Padding costs as
much time as words do; what is longer than the last is cut, as the makers of MiniLM do."""


@keras.saving.register_keras_serializable("tlhelpers")
class PaddedBlock(keras.layers.Layer):  # type: ignore[misc]
    """A transformer block that leaves padding, positions that are all zero, out, and zero."""

    def __init__(self, block: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = block

    def call(self, states: Any) -> Any:
        """(n, length, width) to the same shape."""
        real = _real(states)
        return self.block(states, padding_mask=real) * keras.ops.cast(real[..., None], states.dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The block keeps it."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """What `tlhelpers.precompute` tells one block from another by."""
        return {**super().get_config(), "block": keras.saving.serialize_keras_object(self.block)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PaddedBlock":
        """The inverse of `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config.pop("block")), **config)


@keras.saving.register_keras_serializable("tlhelpers")
class ZeroPadding(keras.layers.Layer):  # type: ignore[misc]
    """States of tokens; zero where the token is padding, number 0."""

    def call(self, states: Any, token_ids: Any) -> Any:
        """(n, length, width) and (n, length) to the shape of the first."""
        return states * keras.ops.cast(keras.ops.not_equal(token_ids, 0)[..., None], states.dtype)


@keras.saving.register_keras_serializable("tlhelpers")
class MeanOverTokens(keras.layers.Layer):  # type: ignore[misc]
    """The mean of the states over all positions but padding: one vector for a sentence."""

    def call(self, states: Any) -> Any:
        """(n, length, width) to (n, width)."""
        tokens = keras.ops.sum(keras.ops.cast(_real(states), states.dtype), axis=1)
        return keras.ops.sum(states, axis=1) / keras.ops.maximum(tokens, 1)[:, None]


def _real(states: Any) -> Any:
    return keras.ops.any(keras.ops.not_equal(states, 0), axis=-1)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen sentence encoder, and how text becomes its input.

    Attributes
    ----------
    name
        One of `ENCODERS`.
    model
        Token numbers int32 (n, length), 0 for padding, to sentence vectors float32 (n, width): the mean over
        the tokens of the last block's states.
    blocks
        Its transformer blocks in order: the layers to cut after, or to train from.
    words
        The tokenizer, of the package tokenizers.
    """

    name: str
    model: keras.Model
    blocks: tuple[str, ...]
    words: Any

    def tokenize(self, texts: Sequence[str], *, length: int) -> npt.NDArray[np.int32]:
        """Turn texts into token numbers, int32 (n, length), the opening and closing token among them.

        Shorter texts are filled up with 0; longer ones are cut, and a warning says how many. Raises as
        `check_texts`, and if `length` is under 2 or more than the encoder has positions for.

        Examples
        --------
        >>> import tlhelpers as tl
        >>> tl.encoders.load_encoder("tiny").tokenize(["the soup is good"], length=8).shape
        (1, 8)
        """
        check_texts(texts)
        most = self.model.get_layer("position_embedding").sequence_length
        length = _inputs.whole("length", length, 2, most, "Choose one of these numbers of tokens.")
        # Padding and truncation are ours, so that the tokenizer has no state.
        numbers = [each.ids for each in self.words.encode_batch(list(texts))]
        if long := sum(len(each) > length for each in numbers):
            warnings.warn(
                f"{long} of {len(numbers)} texts are longer than {length} tokens: what goes beyond is cut. "
                "Give a greater length, or split them.",
                stacklevel=2,
            )
        # The closing token is kept.
        kept = [each if len(each) <= length else [*each[: length - 1], each[-1]] for each in numbers]
        padded: npt.NDArray[np.int32] = keras.utils.pad_sequences(kept, maxlen=length, padding="post")
        return padded


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no list of texts with something in each.

    Parameters
    ----------
    texts
        What was given as texts.

    Raises
    ------
    TypeError, ValueError
        It is a single text, a table or a dictionary, or holds something else, such as bytes; it is empty, or
        one of them is, or is cut inside a letter.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> from tlhelpers import encoders
    >>> encoders.check_texts(["good", " "])
    Traceback (most recent call last):
        ...
    ValueError: texts: expected at least one word in each, got an empty one at 1. Leave it out.
    """
    advice = (
        "Put a single text in brackets, [text], and what is made one by one into a list; name the column of "
        "a table, as in table['text']."
    )
    given: list[Any] = _inputs.listed("texts", texts, "a list of texts", advice)
    if not given:
        raise ValueError("texts: expected at least one, got none. Give one or more.")
    for place, text in enumerate(given):
        if not isinstance(text, str):
            advice = " Decode it first: text.decode('utf-8')." if isinstance(text, bytes) else ""
            raise TypeError(f"texts: expected text, got {type(text).__name__} at {place}.{advice}")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(
                f"texts: expected whole letters, got half of one at {place} (a lone surrogate, as of an "
                "emoji cut in two). Take it out: text.encode('utf-8', 'ignore').decode()."
            )
        # The tokenizer leaves out what is not printed.
        if not any(letter.isprintable() and not letter.isspace() for letter in text):
            raise ValueError(
                f"texts: expected at least one word in each, got an empty one at {place}. Leave it out."
            )


def load_encoder(name: str = MINILM) -> Encoder:
    """Load a sentence encoder as a Functional Keras model with named blocks, all of it frozen.

    Parameters
    ----------
    name
        One of `ENCODERS`. ``"all-MiniLM-L6-v2"`` is fetched if this machine has none (91 MB); ``"tiny"``,
        two blocks with random weights, is for trying code out without it.

    Returns
    -------
    Encoder
        A new one at each call, so that one may be fine-tuned and another stay as it is. Its dropout is off.

    Raises
    ------
    LookupError, ModuleNotFoundError, tlhelpers.downloads.DownloadError
        No encoder has that name; the extra "text" is not installed; the files can't be had.

    Notes
    -----
    Source: Wang et al., *MiniLM: Deep self-attention distillation for task-agnostic compression of
    pre-trained Transformers*, 2020; sentence vectors as mean over tokens: Reimers and Gurevych,
    *Sentence-BERT*, 2019. Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> encoder = tl.encoders.load_encoder("tiny")
    >>> encoder.blocks, encoder.model.output_shape
    (('transformer_layer_0', 'transformer_layer_1'), (None, 32))
    """
    check_name("encoder", name, ENCODERS)
    try:
        import keras_hub  # here, since it takes seconds
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"sentence encoders need {error.name}, which is not installed. In your clone of the "
            "book's repository, run: pip install -e '.[text]'"
        ) from error
    if name == "tiny":
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        vocabulary: Any = {word: number for number, word in enumerate([*specials, *STAND_IN_WORDS])}
        keras.utils.set_random_seed(0)
        shape = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64}
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=len(vocabulary), dropout=0.0, max_sequence_length=64, **shape
        )
    else:
        vocabulary = str(downloads.fetch(f"{name}/vocab.txt"))
        config, weights = (downloads.fetch(f"{name}/{file}") for file in ("config.json", "model.safetensors"))
        with _with_bert_names(config, weights) as preset:
            backbone = keras_hub.models.BertBackbone.from_preset(str(preset), dropout=0.0)
    model, blocks = _single_input(backbone)
    freeze(model)
    return Encoder(name, model, blocks, tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True))


@contextlib.contextmanager
def _with_bert_names(config: Path, weights: Path) -> Iterator[Path]:
    """A folder of both for a moment, the arrays named as in BERT's own release.

    Colab's Keras allows keras-hub up to 0.29, whose reader knows those names only; newer ones know both.
    """
    import safetensors.numpy  # here, since it comes with the extra "text"

    arrays = {}
    for name, array in safetensors.numpy.load_file(weights).items():
        new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        arrays[f"bert.{new}"] = array
    with tempfile.TemporaryDirectory(prefix="tlhelpers-") as scratch:
        shutil.copy2(config, Path(scratch) / "config.json")
        safetensors.numpy.save_file(arrays, Path(scratch) / "model.safetensors")
        yield Path(scratch)


def _single_input(backbone: keras.Model) -> tuple[keras.Model, tuple[str, ...]]:
    """The backbone's own layers over token numbers alone; a single tensor after each block."""
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    tokens = backbone.get_layer("token_embedding")(token_ids)
    places = backbone.get_layer("position_embedding")(tokens)
    # A second sentence would have number 1; we give one.
    segments = backbone.get_layer("segment_embedding")(keras.ops.zeros_like(token_ids))
    states = backbone.get_layer("embeddings_add")([tokens, places, segments])
    states = backbone.get_layer("embeddings_layer_norm")(states)
    states = ZeroPadding(name="embeddings")(states, token_ids)
    blocks = [layer for layer in backbone.layers if layer.name.startswith("transformer_layer_")]
    for block in blocks:
        states = PaddedBlock(block, name=block.name)(states)
    return keras.Model(token_ids, MeanOverTokens(name="mean")(states)), tuple(block.name for block in blocks)


def pooled_blocks(encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Encode sentences once: the mean over the tokens after each block, kept on disk by `precompute`.

    Parameters
    ----------
    encoder
        From `load_encoder`; it must be frozen.
    texts
        As for `Encoder.tokenize`. What is longer than the last of `LENGTHS` tokens, or than the encoder has
        positions for, is cut, with a warning.

    Returns
    -------
    numpy.ndarray
        float32 (n, number of blocks, width); the last block's are the sentence vectors.

    Raises
    ------
    TypeError, ValueError
        As `check_texts`, or something in the encoder trains.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> encoder = tl.encoders.load_encoder("tiny")
    >>> tl.encoders.pooled_blocks(encoder, ["the soup is good", "the film is bad"]).shape
    (2, 2, 32)
    """
    positions = encoder.model.get_layer("position_embedding").sequence_length
    lengths = [length for length in LENGTHS if length <= positions]
    token_ids = encoder.tokenize(texts, length=lengths[-1])
    # Not by counting: a text may hold the word [PAD], which is a 0 too.
    ends = lengths[-1] - (token_ids[:, ::-1] != 0).argmax(axis=1)
    least = np.searchsorted(lengths, ends)  # the place that holds each
    reader = _reader(encoder)
    result = np.empty((len(texts), *reader.output_shape[1:]), np.float32)
    for place in np.unique(least):
        rows = np.flatnonzero(least == place)
        result[rows] = precompute(reader, token_ids[rows, : lengths[place]], batch_size=32)
    return result


@functools.lru_cache(maxsize=4)
def _reader(encoder: Encoder) -> keras.Model:
    mean = MeanOverTokens()
    each = [mean(encoder.model.get_layer(block).output) for block in encoder.blocks]
    return keras.Model(encoder.model.input, keras.ops.stack(each, axis=1))


def embed(encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Sentence vectors of length one, as the encoder's makers define them: cosine is their dot product.

    Parameters
    ----------
    encoder, texts
        As for `pooled_blocks`, with its errors.

    Returns
    -------
    numpy.ndarray
        float32 (n, width).

    Notes
    -----
    Source: Reimers and Gurevych, *Sentence-BERT*, 2019. Explained in the chapter "Find the answer".

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> vectors = tl.encoders.embed(tl.encoders.load_encoder("tiny"), ["the soup is good"])
    >>> bool(np.isclose(np.linalg.norm(vectors), 1))
    True
    """
    last = pooled_blocks(encoder, texts)[:, -1]
    vectors: npt.NDArray[np.float32] = last / np.linalg.norm(last, axis=1, keepdims=True)
    return vectors
