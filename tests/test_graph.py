"""What this project uses of Keras' insides: what each is used for, and that Keras still does it.

A test that fails here names the use, and with it the place that a new version of Keras asks to be changed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tlhelpers import _graph

BACKEND = keras.backend.backend()
LAYERS = keras.layers
ROOT = Path(__file__).resolve().parent.parent


def functional() -> keras.Model:
    inputs = keras.Input((4,))
    a = LAYERS.Dense(3, name="a")(inputs)
    return keras.Model(inputs, LAYERS.Dense(1, name="end")(LAYERS.Add(name="add")([a, a * 2.0])))


def fitted(optimizer: keras.optimizers.Optimizer, epochs: int = 1) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), LAYERS.Dropout(0.5, name="dropout"), LAYERS.Dense(1)])
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, x[:, 0], epochs=epochs, batch_size=4, shuffle=False, verbose=0)
    return model


CONTRACT: dict[str, Callable[[], bool]] = {}


def contract(what: str) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    """Keep a function that says whether Keras still has `what`; its docstring says where we use that."""

    def keep(holds: Callable[[], bool]) -> Callable[[], bool]:
        CONTRACT[what] = holds
        return holds

    return keep


@contract("Sequential._functional")
def sequential_keeps_a_graph() -> bool:
    """_graph.functional: `split`, `cut_points` and `web.export` read a Sequential by the graph inside it"""
    return isinstance(keras.Sequential([keras.Input((4,)), LAYERS.Dense(1)])._functional, keras.Model)


@contract("Functional._nodes_by_depth")
def nodes_by_depth() -> bool:
    """_graph.nodes: all that cuts, replays or exports a network goes through its calls in this order"""
    model = functional()
    depths = model._nodes_by_depth
    names = [node.operation.name for depth in sorted(depths, reverse=True) for node in depths[depth]]
    return names[1] == "a" and names[-2:] == ["add", "end"] and len(names) == 5


@contract("Node.operation, is_input, input_tensors, outputs")
def node_says_what_it_calls() -> bool:
    """_graph.cuts, _graph.replay and web.export: which layer reads which tensor"""
    order = _graph.nodes(functional())
    end = order[-1]
    return (
        [node.is_input for node in order] == [True, False, False, False, False]
        and end.operation.name == "end"
        and [id(t) for t in end.input_tensors] == [id(t) for t in order[-2].outputs]
        and isinstance(end.operation.get_config(), dict)
    )


@contract("Node.arguments, fill_in")
def node_keeps_its_call() -> bool:
    """_graph.replay calls a layer with its own arguments; _graph.signature names constants like x * 2"""
    order = _graph.nodes(functional())
    (times,) = (node for node in order if node.operation.name.startswith("multiply"))
    other = keras.KerasTensor((None, 3), name="other")
    args, kwargs = times.arguments.fill_in({id(times.input_tensors[0]): other})
    kept = times.arguments.args
    return other in keras.tree.flatten(args) and 2.0 in keras.tree.flatten([kept, kwargs])


@contract("Node.arguments.kwargs: training, mask")
def node_says_what_a_nested_model_was_told() -> bool:
    """_graph.replay and _opened: what a nested model was called with; Keras adds the masks of its inputs"""
    tokens = keras.Input((6,), dtype="int32")
    masked = LAYERS.Embedding(3, 2, mask_zero=True)(tokens)
    inner = keras.Sequential([keras.Input((6, 2)), LAYERS.Dense(2)])
    model = keras.Model(tokens, inner(inner(masked), training=False))
    first, last = (node.arguments.kwargs for node in _graph.nodes(model)[-2:])
    return first.get("mask") is masked._keras_mask and "training" not in first and last["training"] is False


@contract("Layer.call of one instance")
def a_call_can_be_put_on_a_layer() -> bool:
    """freezing.refresh_batch_norm: BatchNorm is called through it, and it gets ``training`` by name"""
    norm, told = LAYERS.BatchNormalization(), []
    model = keras.Sequential([keras.Input((2,)), norm])
    plain = norm.call
    norm.call = lambda *args, **kwargs: told.append(kwargs.get("training")) or plain(*args, **kwargs)
    for training in (True, False):
        model(np.ones((3, 2), "float32"), training=training)
    return told == [True, False]


@contract("Model.make_predict_function(force=True)")
def a_compiled_pass_can_be_made_anew() -> bool:
    """_forward.forward: after a layer's setting was changed, what Keras compiled before is stale"""
    model = keras.Sequential([keras.Input((1,)), LAYERS.Rescaling(2.0, name="scale")])
    found = [model.predict_on_batch(np.ones((3, 1), "float32"))[0, 0]]
    model.get_layer("scale").scale = 3.0
    model.make_predict_function(force=True)
    found.append(model.predict_on_batch(np.ones((3, 1), "float32"))[0, 0])
    return found == [2.0, 3.0]


@contract("Layer.lora_enabled, quantization_mode")
def layers_say_that_their_weights_are_special() -> bool:
    """freezing.freeze leaves the kernel under LoRA frozen; `web.export` and the quick 1x1 refuse int8"""
    plain, lora, int8 = (LAYERS.Dense(2) for _ in range(3))
    for layer in (plain, lora, int8):
        layer.build((None, 2))
    lora.enable_lora(1)
    int8.quantize("int8")
    frozen = [weight.name for weight in lora.weights if not weight.trainable]
    modes = [plain.quantization_mode, int8.quantization_mode]
    return (plain.lora_enabled, lora.lora_enabled, frozen, modes) == (False, True, ["kernel"], [None, "int8"])


@contract("Functional.call, input, output")
def a_model_calls_its_graph() -> bool:
    """_graph.functional refuses a call of its own; _graph.flat keeps the form of inputs and outputs"""
    given = keras.Input((4,), name="given")
    form = keras.Model({"given": given}, {"found": LAYERS.Dense(1)(given)})

    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs)

    return (
        type(form).call is type(functional()).call
        and Own(given, LAYERS.Dense(1)(given)).call.__func__ is Own.call
        and (list(form.input), list(form.output)) == (["given"], ["found"])
    )


@contract("Layer._flatten_layers, _layers, _trainable_variables, _non_trainable_variables")
def layers_inside_layers_are_found() -> bool:
    """_graph.walk and own_weights: freezing sets and watches each layer's own weights, whatever holds it"""
    model = keras.Sequential([keras.Input((3, 4)), LAYERS.Bidirectional(LAYERS.LSTM(2), name="both")])
    found = _graph.walk(model)
    weights = [weight for layer in found for group in _graph.own_weights(layer) for weight in group]
    norm = LAYERS.BatchNormalization()
    norm.build((None, 2))
    return (
        found[0] is model
        and [layer.name for layer in found].index("both") < len(found) - 4
        and {id(weight) for weight in weights} == {id(weight) for weight in model.weights}
        and [len(group) for group in _graph.own_weights(norm)] == [2, 2]
    )


@contract("KerasTensor._keras_mask")
def masks_stand_at_their_tensor() -> bool:
    """_graph.cuts: no cut where a mask would have to cross beside its tensor"""
    tokens = keras.Input((6,), dtype="int32")
    states = LAYERS.LayerNormalization()(LAYERS.Embedding(3, 2, mask_zero=True)(tokens))
    return hasattr(states, "_keras_mask") and not hasattr(LAYERS.LSTM(2)(states), "_keras_mask")


@contract("Model(tensor, outputs)")
def model_begins_in_the_middle() -> bool:
    """prefix.split makes the suffix from a tensor in the middle, with the model's own layers"""
    model = functional()
    rest = keras.Model(model.get_layer("add").output, model.output)
    return [layer.name for layer in rest.layers[1:]] == ["end"] and rest.layers[-1] is model.layers[-1]


@contract("the path of a seed generator")
def random_layers_say_so() -> bool:
    """_graph.draws: `precompute` tries layers out that keep a generator, and names the one that draws"""
    random = [LAYERS.Dropout(0.5), LAYERS.GaussianNoise(0.1), LAYERS.RandomFlip(), LAYERS.RandomRotation(0.1)]
    plain = [LAYERS.Dense(2, name="seedling"), LAYERS.BatchNormalization()]
    for layer in [*random, *plain]:
        layer.build((None, 4, 4, 3))
    return all(map(_graph.draws, random)) and not any(map(_graph.draws, plain))


@contract("SeedGenerator.state")
def dropout_starts_again_from_its_state() -> bool:
    """skeleton.forget: a compiled network's dropout is set to a seed, as (seed, 0)"""
    state = LAYERS.Dropout(0.5).seed_generator.state
    layer = LAYERS.Dropout(0.5)
    ones, drawn = np.ones((2, 50), "float32"), []
    for seed in (3, 3, 4):
        layer.seed_generator.state.assign(np.array([seed, 0], "uint32"))
        drawn.append(keras.ops.convert_to_numpy(layer(ones, training=True)))
    return state.shape == (2,) and np.array_equal(*drawn[:2]) and not np.array_equal(*drawn[1:])


@contract("Optimizer.variables")
def zeroed_optimizers_are_new() -> bool:
    """skeleton.forget: with zeros in all variables and its rate, an optimiser has seen nothing"""
    for kind in (keras.optimizers.Adam, keras.optimizers.SGD):
        model, new = fitted(kind(0.01), epochs=3), kind(0.01)
        new.build(model.trainable_variables)
        for variable in model.optimizer.variables:
            variable.assign(np.zeros(variable.shape))
        model.optimizer.learning_rate = 0.01
        states = [[keras.ops.convert_to_numpy(v) for v in each.variables] for each in (model.optimizer, new)]
        if not all(np.array_equal(a, b) for a, b in zip(*states, strict=True)):
            return False
    return True


@contract("Optimizer.update_step")
def an_update_is_one_call_a_variable() -> bool:
    """studies.unfreezing: learning-rate multipliers, a variable's own share of the rate"""
    calls = []

    class Watched(keras.optimizers.SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow hands its own variable on, which has the path for a name.
            calls.append(getattr(variable, "path", variable.name).partition(":")[0])
            super().update_step(gradient, variable, learning_rate * 0.0)

    model = fitted(Watched(0.1))
    before = [keras.ops.convert_to_numpy(weight) for weight in fitted(keras.optimizers.SGD(0.0)).weights]
    still = all(np.array_equal(a, w) for a, w in zip(before, model.get_weights(), strict=True) if w.ndim)
    # The step is traced once or twice, so a variable may be seen more than once.
    return still and {*calls} == {weight.path for weight in model.trainable_weights}


@contract("ArrayDataAdapter.get_tf_dataset")
def arrays_are_fed_through_one_method() -> bool:
    """_graph.feed_arrays_plainly: `fit` takes arrays in memory through it, here without autotuning"""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    kept, x = ArrayDataAdapter.get_tf_dataset, np.arange(12.0, dtype="float32").reshape(6, 2)
    try:
        weights = fitted(keras.optimizers.Adam(0.1), epochs=3).get_weights()
        _graph.feed_arrays_plainly()
        _graph.feed_arrays_plainly()
        dataset = ArrayDataAdapter(x, batch_size=4).get_tf_dataset()
        same = zip(weights, fitted(keras.optimizers.Adam(0.1), epochs=3).get_weights(), strict=True)
        plain = dataset.options().autotune.enabled is False
        return (
            plain and kept.__qualname__.endswith("get_tf_dataset") and all(np.array_equal(*p) for p in same)
        )
    finally:
        ArrayDataAdapter.get_tf_dataset = kept


@pytest.mark.parametrize("what", CONTRACT)
def test_keras_still_does(what: str) -> None:
    if what in ("SeedGenerator.state", "ArrayDataAdapter.get_tf_dataset") and BACKEND != "tensorflow":
        pytest.skip("used on TensorFlow alone")
    told = f"Keras {keras.version()} changed {what}, which is used in {CONTRACT[what].__doc__}"
    try:
        kept = CONTRACT[what]()
    except Exception as error:
        pytest.fail(f"{told}: {error!r}")
    assert kept, told


# -- here and nowhere else ------------------------------------------------------------------------

ALLOWED = {
    "tlhelpers/_graph.py": {
        "_functional", "_nodes_by_depth", "_flatten_layers", "_layers", "_trainable_variables",
        "_non_trainable_variables", "_keras_mask", "_keras.src",
    },
}  # fmt: skip
"""Attributes of others that begin with an underscore, by file: each is in the contract above."""


def private(text: str) -> set[str]:
    """Names with an underscore in front that a source takes from something other than itself."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls", "super()"):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            found |= {each.value for each in node.args if isinstance(each, ast.Constant)}
        elif isinstance(node, ast.Import | ast.ImportFrom) and "keras.src" in ast.unparse(node):
            found.add("_keras.src")
    return {name for name in found if isinstance(name, str) and name[:1] == "_" and name[:2] != "__"}


@pytest.mark.parametrize("folder", ["tlhelpers", "benchmarks", "pretraining", "tools"])
def test_no_other_module_touches_what_begins_with_an_underscore(folder: str) -> None:
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if names := private(path.read_text(encoding="utf-8")) - ALLOWED.get(name, set()):
            found[name] = names
    assert found == {}


def test_the_search_finds_what_it_is_for() -> None:
    assert private("model._nodes_by_depth") == {"_nodes_by_depth"}
    assert private("hasattr(model, '_functional')") == {"_functional"}
    assert private("from keras.src.ops import node") == private("import keras.src") == {"_keras.src"}
    assert private("self._kept = cls._known\nmodel.__class__") == set()


# -- what is made of it -----------------------------------------------------------------------------


def test_a_signature_says_what_is_computed_and_no_name() -> None:
    def model(units: int = 3, factor: float = 2.0, name: str = "a") -> keras.Model:
        inputs = keras.Input((4,))
        inner = keras.Sequential([keras.Input((4,)), LAYERS.Dense(units, name=name)])
        return keras.Model(inputs, LAYERS.ReLU()(inner(inputs) * factor))

    assert _graph.signature(model()) == _graph.signature(model(name="b"))
    assert len({_graph.signature(each) for each in (model(), model(units=2), model(factor=3.0))}) == 3
