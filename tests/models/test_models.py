"""The models of `npdl.models`: gradients, decoding and ONNX, without Transformers."""

import json

import numpy as np
import pytest
from arrays import noisy_params

import npdl.functional as F
from npdl import models, random, tree
from npdl.gradcheck import check_gradients

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 10}
TEXT = SIZES | {"vocab_size": 11, "hidden_size": 8}
CONFIGS = {
    "gpt2": {"vocab_size": 11, "n_positions": 9, "n_embd": 8, "n_layer": 2, "n_head": 2},
    "llama": TEXT | {"num_key_value_heads": 2, "sliding_window": 3},
    "bert": TEXT | {"max_position_embeddings": 9},
    "vit": SIZES | {"hidden_size": 8, "image_size": 6, "patch_size": 3},
}
SHAPES = {"gpt2": (5,), "llama": (5,), "bert": ((5,), (5,), (5,)), "vit": (3, 6, 6)}
each_model = pytest.mark.parametrize("name", CONFIGS)


def made(name, dtype=np.float32):
    model = getattr(models, name)(CONFIGS[name])
    return model, noisy_params(model, SHAPES[name], dtype)


def batch(name, dtype=np.float32, count=3, time=5):
    generator = random.generator((count, time))
    if name == "vit":
        return generator.normal(size=(count, 3, 6, 6)).astype(dtype)
    ids = generator.integers(0, 11, (count, time))
    if name != "bert":
        return ids
    mask = np.arange(time) < np.array([[time], [3], [1]])[:count]
    return ids, mask, (np.arange(time) > 2) + np.zeros_like(ids)


@each_model
def test_gradients_agree_with_central_differences(name):
    model, params = made(name, np.float64)
    check_gradients(model, SHAPES[name], x=batch(name, np.float64), params=params)


@each_model
def test_the_configuration_of_a_model_gives_an_equal_layer(name):
    model, _ = made(name)
    assert F.from_config(json.loads(json.dumps(model.config()))) == model
    params = model.init(0, SHAPES[name])
    assert F.summary(model, SHAPES[name]).count == tree.count(params)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_tokens_are_decoded_one_by_one(name):
    model, params = made(name, np.float64)
    ids, step, state = batch(name), F.decode_step(model), None
    expected = model(params, ids)
    for t in range(5):
        y, state = step(params, ids[:, t : t + 1], state)
        np.testing.assert_allclose(y[:, 0], expected[:, t], rtol=1e-9, atol=1e-11)


@each_model
def test_models_are_exported_as_onnx(name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx_models import agree, exported

    model, params = made(name)
    shape = {"gpt2": (None,), "llama": (None,), "bert": ((None,),) * 3}.get(name, SHAPES[name])
    running = exported(tmp_path, model, params, shape)
    agree(running, model, params, batch(name))
    agree(running, model, params, batch(name, count=2, time=4))


@each_model
def test_dropout_is_an_argument(name):
    model = getattr(models, name)(CONFIGS[name], dropout=0.5)
    params, x = model.init(0, SHAPES[name]), batch(name)
    first, again, other = (
        tree.leaves(model(params, x, train=True, rng=key)) for key in ((1,), (1,), (2,))
    )
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


WRONG = {
    "gpt2": ("n_embd", 0, "'n_embd' of the configuration must be a positive int, got 0"),
    "llama": ("mlp_bias", True, "'mlp_bias' of the configuration must be False, the only value"),
    "bert": ("position_embedding_type", "relative_key", "must be 'absolute', the only value"),
    "vit": ("patch_size", 4, "'patch_size' of the configuration must be a divisor of image_size"),
}


@each_model
def test_a_wrong_entry_of_a_configuration_is_an_error(name):
    entry, value, message = WRONG[name]
    with pytest.raises(ValueError, match=rf"^models.{name}: the entry .*{message}"):
        getattr(models, name)(CONFIGS[name] | {entry: value})
    with pytest.raises(TypeError, match=rf"^models.{name}: expected the configuration as a dict"):
        getattr(models, name)([("n_embd", 8)])
    activation = "activation_function" if name == "gpt2" else "hidden_act"
    with pytest.raises(ValueError, match=r"must be one of gelu, .*got 'softmax'|must be 'silu'"):
        getattr(models, name)(CONFIGS[name] | {activation: "softmax"})
