"""The small GPT: the published text token by token, the maths by hand, tokens, cuts, LoRA that merges."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tlhelpers as tl
from tlhelpers import _formats, decoders
from tlhelpers.studies.fables import PUBLISHED

ROWS = np.array([[1, 5, 7, 200, 30, 9], [1, 258, 3, 4, 4, 4]], np.int32)


@pytest.fixture(scope="module")
def tiny():
    return decoders.load_decoder("tiny")


def logits(model, rows=ROWS):
    return keras.ops.convert_to_numpy(model(rows, training=False))


def test_it_writes_what_its_makers_published(full_data):
    decoder = decoders.load_decoder()
    assert decoder.model.count_params() == 260_032
    (numbers,) = decoder.tokenize([PUBLISHED])
    # Each token is the likeliest after those before it: so a greedy writer writes this text and no other.
    assert logits(decoder.model, np.array([numbers[:-1]]))[0].argmax(axis=1).tolist() == numbers[1:]
    assert PUBLISHED.startswith(decoders.write(decoder, length=12))
    assert decoders.write(decoder, "Once upon", length=12) == decoder.text(numbers[:12])


def by_hand(decoder, row):
    """LLaMA's equations in NumPy, one head after the other, positions as powers of complex numbers."""
    weights = {w.path: np.asarray(w, np.float64) for w in decoder.model.weights}
    size, length = decoder.model.get_layer("block_0_attention").size, len(row)

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}/scale"]

    def turned(x):
        turns = np.exp(1j * np.outer(np.arange(length), 10_000.0 ** -(np.arange(0, size, 2) / size)))
        z = (x[:, ::2] + 1j * x[:, 1::2]) * turns
        return np.stack([z.real, z.imag], -1).reshape(length, size)

    states = weights["embedding/embeddings"][row]
    for block in decoder.blocks:
        seen = norm(states, f"{block}_attention_norm")
        q, k, v = (seen @ weights[f"{block}_{each}/kernel"] for each in ("query", "key", "value"))
        heads, shared = q.shape[1] // size, q.shape[1] // k.shape[1]
        found = []
        for head in range(heads):
            mine, theirs = (slice(h * size, (h + 1) * size) for h in (head, head // shared))
            scores = turned(q[:, mine]) @ turned(k[:, theirs]).T / np.sqrt(size)
            chances = np.exp(np.where(np.tri(length) > 0, scores, -np.inf))
            found.append(chances / chances.sum(1, keepdims=True) @ v[:, theirs])
        states = states + np.concatenate(found, 1) @ weights[f"{block}_output/kernel"]
        seen = norm(states, f"{block}_feed_forward_norm")
        gate, up = (seen @ weights[f"{block}_{each}/kernel"] for each in ("gate", "up"))
        states = states + gate / (1 + np.exp(-gate)) * up @ weights[f"{block}_down/kernel"]
    return norm(states, "norm") @ weights["embedding/embeddings"].T


def test_it_computes_what_the_equations_say():
    decoder, rng = decoders.load_decoder("tiny"), np.random.default_rng(0)
    decoder.model.set_weights([rng.normal(scale=0.5, size=w.shape) for w in decoder.model.weights])
    for found, row in zip(logits(decoder.model), ROWS, strict=True):
        np.testing.assert_allclose(found, by_hand(decoder, row), rtol=1e-4, atol=1e-4)


def test_what_comes_later_is_not_looked_at(tiny):
    longer = np.pad(ROWS, ((0, 0), (0, 3)), constant_values=77)
    np.testing.assert_allclose(logits(tiny.model, longer)[:, :6], logits(tiny.model), atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # nothing after the cut trains
def test_each_block_is_a_cut_point_and_the_prefix_runs_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    assert {*tiny.blocks} <= {*tl.cut_points(tiny.model)}
    prefix, suffix = tl.split(tiny.model, at=tiny.blocks[0])
    states = np.array(tl.precompute(prefix, ROWS))
    np.testing.assert_allclose(logits(suffix, states), logits(tiny.model), atol=1e-6)


def test_the_last_block_trains_and_the_shared_embedding_stays():
    decoder = decoders.load_decoder("tiny")
    tl.freeze(decoder.model, train_from="block_2_attention_norm")
    prefix, suffix = tl.split(decoder.model, at="block_1")
    before = logits(decoder.model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    suffix.compile("adam", loss, run_eagerly=True)  # tracing takes longer
    with tl.unchanged(decoder.model):
        suffix.fit(np.array(tl.precompute(prefix, ROWS)), ROWS, verbose=0)
    assert np.abs(logits(decoder.model) - before).max() > 1e-5


def test_low_ranks_train_alone_and_merge_into_the_kernels():
    decoder, plain = (decoders.load_decoder("tiny") for _ in range(2))
    tuned = [layer for layer in decoder.model.layers if layer.name.endswith(("query", "value"))]
    for layer in tuned:
        layer.trainable = True
        layer.enable_lora(4)
    # Three times for queries (16 to 16), and for values (16 to 8).
    assert sum(int(np.prod(w.shape)) for w in decoder.model.trainable_weights) == 3 * 4 * (32 + 24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    decoder.model.compile(keras.optimizers.Adam(0.1), loss, run_eagerly=True)
    before = logits(decoder.model)
    with tl.unchanged(decoder.model):
        decoder.model.fit(ROWS, ROWS, epochs=3, verbose=0)
    assert np.abs(logits(decoder.model) - before).max() > 0.01
    for layer in tuned:
        plain.model.get_layer(layer.name).set_weights([layer.kernel])
    np.testing.assert_allclose(logits(plain.model), logits(decoder.model), atol=1e-5)


def test_a_reloaded_model_computes_the_same(tiny, tmp_path):
    tiny.model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        logits(keras.saving.load_model(tmp_path / "model.keras")), logits(tiny.model)
    )


# -- tokens --------------------------------------------------------------------------------------

PIECES = (
    *(b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256))),
    *(b" ", b"a", b"b", b"c", b" a", b"ab", b"bc", b" ab", b"abc", "é".encode()),
)


@pytest.fixture(scope="module")
def words():
    """Joins "bc" before "ab", and " a" last but two."""
    scores = np.zeros(len(PIECES), np.float32)
    scores[[PIECES.index(piece) for piece in (b"bc", b"ab", b" a", b"abc", b" ab")]] = -1, -2, -3, -4, -5
    return decoders.Decoder("words", None, (), 64, PIECES, scores)


def slowly(decoder, text):
    """The definition: over the whole text, join the best pair, the first of equals, again and again."""
    numbers = []
    for letter in f" {text}":
        known = letter.encode() in PIECES
        numbers += [PIECES.index(letter.encode())] if known else [3 + byte for byte in letter.encode()]
    while True:
        pairs = [PIECES[a] + PIECES[b] for a, b in itertools.pairwise(numbers)]
        known = [(-decoder.scores[PIECES.index(p)], at) for at, p in enumerate(pairs) if p in PIECES[259:]]
        if not known:
            return [1, *numbers]
        at = min(known)[1]
        numbers[at : at + 2] = [PIECES.index(pairs[at])]


@given(st.text("abc é\n😀", min_size=1).filter(str.strip))
def test_words_are_cut_as_the_whole_text_would_be_and_come_back(words, text):
    (numbers,) = words.tokenize([text])
    assert numbers == slowly(words, text)
    assert words.text(numbers) == text


def test_the_best_pair_is_joined_first(words):
    (numbers,) = words.tokenize(["abc"])
    assert [PIECES[number] for number in numbers[1:]] == [b" a", b"bc"]


def test_text_from_numbers(words):
    assert words.text([1, 259, 260, 2, 0]) == "a"
    assert words.text([3 + 0xF0]) == "\N{REPLACEMENT CHARACTER}"  # a byte that is no letter
    for wrong in ([len(PIECES)], [-1]):
        with pytest.raises(ValueError, match=rf"numbers: expected 0 to 268, got {wrong[0]}\. Take"):
            words.text(wrong)


# -- loading and writing -------------------------------------------------------------------------


def test_random_weights_follow_the_seed_and_everything_is_frozen():
    first, again, other = (decoders.load_decoder("tiny", seed=seed).model for seed in (0, 0, 1))
    assert not first.trainable_weights
    np.testing.assert_array_equal(logits(first), logits(again))
    assert np.abs(logits(first) - logits(other)).max() > 1e-3


def test_writing_follows_the_temperature_and_the_seed(tiny):
    greedy = decoders.write(tiny, "a fox", length=12)
    assert decoders.write(tiny, "a fox", length=12) == greedy
    drawn = [decoders.write(tiny, "a fox", length=12, temperature=5, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(text.startswith("a fox") for text in drawn)


def test_writing_ends_where_a_text_ends():
    decoder = decoders.load_decoder("tiny")
    embedding = decoder.model.get_layer("embedding")
    embedding.set_weights([np.eye(259, 16)])  # each of the first tokens is most like itself
    # The first token is 1, which ends a text: nothing is written.
    assert decoders.write(decoder, length=8) == ""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decoders.load_decoder("gpt"), LookupError, "unknown decoder 'gpt'"),
        (
            lambda: decoders.load_decoder("tiny", weights="none"),
            ValueError,
            'weights: expected "pretrained" or',
        ),
        (lambda: decoders.load_decoder("tiny", seed=-1), ValueError, "seed: expected 0 to"),
        (
            lambda: decoders.write(decoders.load_decoder("tiny"), "a fox", length=6),
            ValueError,
            "length: expected 7 to",
        ),
        (lambda: decoders.write(decoders.load_decoder("tiny"), "a" * 600), ValueError, "The prompt has 602"),
        (
            lambda: decoders.write(decoders.load_decoder("tiny"), None),
            TypeError,
            "texts: expected text, got None",
        ),
        (
            lambda: decoders.write(decoders.load_decoder("tiny"), temperature=-1),
            ValueError,
            "temperature: expected",
        ),
    ],
)
def test_what_is_wrong_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_real_vocabulary_keeps_every_fable(full_data):
    decoder = decoders.Decoder("stories", None, (), 512, *_formats.llama_tokens(full_data / "tok512.bin"))
    texts = [text for _, text in _formats.fables(full_data / "pg21.txt")]
    assert [decoder.text(numbers) for numbers in decoder.tokenize(texts)] == texts
    assert decoder.text(decoder.tokenize([PUBLISHED])[0]) == PUBLISHED
