"""A small GPT, a network that guesses the next token of a text, as one plain Keras model.

Each of its blocks is a cut point. All weights lie in Keras' own layers, so ``enable_lora`` works as in any
model; the one layer of ours has none: attention that looks back only, with positions as rotations.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from . import _formats, _inputs, downloads
from ._errors import check_name
from .encoders import check_texts
from .freezing import freeze

__all__ = ["DECODERS", "Decoder", "load_decoder", "write"]

STORIES = "stories260K"
DECODERS = (STORIES, "tiny")
"""Names for `load_decoder`: 260,032 weights, trained on children's stories; and a stand-in of random ones."""

FIRST = 1
"""The token that begins each text. No text has the token 0: it is free for padding."""
BYTES = 3
"""Where the tokens of the 256 bytes begin."""


@keras.saving.register_keras_serializable("tlhelpers")
class RotaryAttention(layers.Layer):  # type: ignore[misc]
    """What each position takes from itself and from those before it, by several heads of `size` numbers.

    Positions are rotations of queries and keys. There may be fewer keys and values than queries: neighbouring
    heads then share them. Sources: Su et al., *RoFormer*, 2021; Ainslie et al., *GQA*, 2023.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, query: Any, key: Any, value: Any) -> Any:
        """(n, length, width) of the queries, and of keys and values, to the shape of the first."""
        n, length, width = ops.shape(query)
        query, key, value = (
            ops.reshape(x, (n, length, x.shape[-1] // self.size, self.size)) for x in (query, key, value)
        )
        query, key = self._turned(query, length), self._turned(key, length)
        key, value = (ops.repeat(x, query.shape[2] // x.shape[2], axis=2) for x in (key, value))
        found = ops.dot_product_attention(query, key, value, is_causal=True)
        return ops.reshape(found, (n, length, width))

    def _turned(self, x: Any, length: Any) -> Any:
        """Each pair of neighbours, as a point in the plane, turned the further the later it stands."""
        speeds = 10_000.0 ** -(np.arange(self.size) // 2 * 2 / self.size).astype("float32")
        angles = ops.cast(ops.arange(length), "float32")[:, None, None] * speeds
        quarter = np.kron(np.eye(self.size // 2), [[0, 1], [-1, 0]]).astype("float32")  # (a, b) to (-b, a)
        return x * ops.cos(angles) + ops.matmul(x, quarter) * ops.sin(angles)

    def get_config(self) -> dict[str, Any]:
        """What `tlhelpers.precompute` tells one layer from another by."""
        return {**super().get_config(), "size": self.size}


@dataclass(frozen=True, eq=False)
class Decoder:
    """A network that guesses the next token, and how text becomes its input and comes out of it.

    Attributes
    ----------
    name
        One of `DECODERS`.
    model
        Token numbers int32 (n, length) to logits float32 (n, length, tokens): at each position, of the token
        that comes next.
    blocks
        Its blocks in order: each the name of the block's last layer, to cut after.
    places
        The most tokens that it was made to read at once.
    pieces, scores
        The bytes of each token; and of two pairs of tokens, the pair with the higher score is joined first.
    """

    name: str
    model: keras.Model
    blocks: tuple[str, ...]
    places: int
    pieces: tuple[bytes, ...]
    scores: npt.NDArray[np.float32]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token numbers: a list for each, with `FIRST` at its beginning.

        Raises as `tlhelpers.encoders.check_texts`.

        Examples
        --------
        >>> import tlhelpers as tl
        >>> tl.decoders.load_decoder("tiny").tokenize(["a fox"])
        [[1, 35, 100, 35, 105, 114, 123]]
        """
        check_texts(texts)
        # A space, here also before the first word, is only ever a token's beginning: words are joined alone.
        words = (re.findall(r" [^ ]*", f" {text}") for text in texts)
        return [[FIRST, *(number for word in each for number in self._joined(word))] for each in words]

    @functools.cached_property
    def _joined(self) -> Any:
        return functools.cache(self._join)

    @functools.cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {piece: number for number, piece in enumerate(self.pieces) if number >= BYTES + 256}

    def _join(self, word: str) -> tuple[int, ...]:
        """Letters, by their bytes where they are no tokens; then, again and again, the best pair as one."""
        numbers: list[int] = []
        for letter in map(str.encode, word):
            numbers += (
                [self._numbers[letter]] if letter in self._numbers else [BYTES + each for each in letter]
            )
        while True:
            pairs = [self.pieces[a] + self.pieces[b] for a, b in itertools.pairwise(numbers)]
            known = [place for place, pair in enumerate(pairs) if pair in self._numbers]
            if not known:
                return tuple(numbers)
            place = max(known, key=lambda place: self.scores[self._numbers[pairs[place]]])
            numbers[place : place + 2] = [self._numbers[pairs[place]]]

    def text(self, numbers: Sequence[int]) -> str:
        """Turn token numbers into text. Bytes that are no letter become the sign for that.

        Examples
        --------
        >>> import tlhelpers as tl
        >>> tl.decoders.load_decoder("tiny").text([1, 35, 100, 35, 105, 114, 123])
        'a fox'
        """
        last, own = len(self.pieces) - 1, "Take this decoder's own numbers."
        given = _inputs.listed("numbers", numbers, "a list of whole numbers", own)
        numbers = [_inputs.whole("numbers", each, 0, last, own) for each in given]
        some = (each for each in numbers if each >= BYTES)
        pieces = (bytes([n - BYTES]) if n < BYTES + 256 else self.pieces[n] for n in some)
        return b"".join(pieces).decode(errors="replace").removeprefix(" ")


def load_decoder(
    name: str = STORIES, *, weights: Literal["pretrained", "random"] = "pretrained", seed: int = 0
) -> Decoder:
    """Load a decoder as a Functional Keras model with named layers, all of it frozen.

    Parameters
    ----------
    name
        One of `DECODERS`. ``"stories260K"`` is fetched if this machine has none (1 MB). ``"tiny"``, three
        blocks with random weights, is for trying code out without it; its tokens are the bytes.
    weights
        ``"pretrained"``, or ``"random"`` for the same network before any training, as a control.
    seed
        Which random weights.

    Returns
    -------
    Decoder
        A new one at each call, so that one may be fine-tuned and another stay as it is.

    Raises
    ------
    LookupError, TypeError, ValueError, tlhelpers.downloads.DownloadError
        No decoder has that name; `weights` is neither of the two, or `seed` no number; no files.

    Notes
    -----
    Sources: Touvron et al., *LLaMA: Open and efficient foundation language models*, 2023, for the network;
    Eldan and Li, *TinyStories*, 2023, for the stories. Explained in the chapter "Go on writing".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> decoder = tl.decoders.load_decoder("tiny")
    >>> decoder.blocks, decoder.model.output_shape
    (('block_0', 'block_1', 'block_2'), (None, None, 259))
    """
    check_name("decoder", name, DECODERS)
    _inputs.word("weights", weights, ("pretrained", "random"))
    rng = np.random.default_rng(_inputs.whole("seed", seed, 0, _inputs.SEED))
    arrays: dict[str, Any] | None = None
    if name == "tiny":
        pieces = (b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256)))
        scores = np.zeros(len(pieces), np.float32)
        shape = dict(zip(_formats.LLAMA, (16, 32, 3, 4, 2, len(pieces), 512), strict=True))
    else:
        pieces, scores = _formats.llama_tokens(downloads.fetch("tok512.bin"))
        shape, arrays = _formats.llama_weights(downloads.fetch(f"{name}.bin"))
    model = _network(shape)
    for layer in model.layers:
        if arrays is not None and weights == "pretrained" and layer.weights:
            *block, part = re.fullmatch(r"(?:block_(\d+)_)?(.+)", layer.name).groups()  # type: ignore[union-attr]
            array = arrays[part] if block == [None] else arrays[part][int(block[0])]
            layer.set_weights([array.T if isinstance(layer, layers.Dense) else array])
        elif layer.weights and not isinstance(layer, layers.RMSNormalization):
            layer.set_weights([rng.normal(scale=0.02, size=each.shape) for each in layer.weights])
    freeze(model)
    blocks = tuple(f"block_{block}" for block in range(shape["n_layers"]))
    return Decoder(name, model, blocks, shape["seq_len"], pieces, scores)


def _network(shape: dict[str, int]) -> keras.Model:
    """LLaMA's network: in each block attention, then a gated feed-forward part, each added to the states."""
    width, size = shape["dim"], shape["dim"] // shape["n_heads"]
    dense = functools.partial(layers.Dense, use_bias=False)
    norm = functools.partial(layers.RMSNormalization, epsilon=1e-5)
    embedding = layers.ReversibleEmbedding(shape["vocab_size"], width, name="embedding")
    numbers = keras.Input((None,), dtype="int32", name="numbers")
    states = embedding(numbers)
    for block in range(shape["n_layers"]):
        name = f"block_{block}"
        seen = norm(name=f"{name}_attention_norm")(states)
        query = dense(width, name=f"{name}_query")(seen)
        key, value = (dense(size * shape["n_kv_heads"], name=f"{name}_{it}")(seen) for it in ("key", "value"))
        found = RotaryAttention(size, name=f"{name}_attention")(query, key, value)
        found = dense(width, name=f"{name}_output")(found)
        states = layers.Add(name=f"{name}_attended")([states, found])
        seen = norm(name=f"{name}_feed_forward_norm")(states)
        gate = dense(shape["hidden_dim"], activation="silu", name=f"{name}_gate")(seen)
        up = dense(shape["hidden_dim"], name=f"{name}_up")(seen)
        found = dense(width, name=f"{name}_down")(layers.Multiply(name=f"{name}_gated")([gate, up]))
        states = layers.Add(name=name)([states, found])
    return keras.Model(numbers, embedding(norm(name="norm")(states), reverse=True), name="decoder")


def write(
    decoder: Decoder, prompt: str = "", *, length: int = 256, temperature: float = 0.0, seed: int = 0
) -> str:
    """Go on writing: the prompt, and token by token what the network goes on with.

    Parameters
    ----------
    decoder
        From `load_decoder`, trained further or not.
    prompt
        The beginning; none lets the network begin.
    length
        Tokens in all, the prompt's among them. A text that ends by itself may be shorter.
    temperature
        0 takes the likeliest token each time, 1 draws as likely as the network says, more is wilder.
    seed
        Which draw.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        `prompt` is no text, or fills `length`; a number is none or out of range.

    Notes
    -----
    Explained in the chapter "Go on writing".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> decoder = tl.decoders.load_decoder("tiny")
    >>> tl.decoders.write(decoder, "a fox", length=10).startswith("a fox")
    True
    """
    numbers = [FIRST] if type(prompt) is str and not prompt else decoder.tokenize([prompt])[0]
    advice = f"The prompt has {len(numbers)} tokens, and the network has {decoder.places} places."
    length = _inputs.whole("length", length, len(numbers), decoder.places, advice)
    temperature = _inputs.real("temperature", temperature)
    rng = np.random.default_rng(_inputs.whole("seed", seed, 0, _inputs.SEED))
    row = np.zeros((1, length), np.int32)  # one length, so one graph; what lies ahead is not looked at
    for place in range(len(numbers), length):
        row[0, :place] = numbers
        logits = decoder.model.predict_on_batch(row)[0, place - 1]
        if temperature:  # a draw from the softmax
            logits = logits / temperature + rng.gumbel(size=logits.shape)
        if (number := int(logits.argmax())) == FIRST:  # the text is over
            break
        numbers.append(number)
    return decoder.text(numbers)
