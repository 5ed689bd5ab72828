"""Models of Transformers: equal outputs and tokens with the weights of its files."""

import json
import warnings

import numpy as np
import pytest

import npdl.functional as F
from npdl import checkpoint, models, random, tree

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        GPT2Model,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        ViTConfig,
        ViTModel,
    )

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
VOCABULARY, TIME = 50, 12
GPT2 = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 4}
LLAMA = SIZES | {"vocab_size": VOCABULARY, "hidden_size": 24, "num_key_value_heads": 2}
BERT = SIZES | {"vocab_size": VOCABULARY, "hidden_size": 24, "max_position_embeddings": 32}
VIT = SIZES | {"hidden_size": 24, "image_size": 16, "patch_size": 4}
SPECIAL = {"bos_token_id": None, "eos_token_id": None}

MAKERS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, **SPECIAL)),
    "gpt2, untied, relu": lambda: GPT2LMHeadModel(
        GPT2Config(
            **GPT2, **SPECIAL, n_inner=36, activation_function="relu", tie_word_embeddings=False
        )
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, **SPECIAL)),
    "llama, tied": lambda: LlamaForCausalLM(
        LlamaConfig(
            **LLAMA,
            **SPECIAL,
            rope_parameters={"rope_theta": 50.0, "rope_type": "default"},
            tie_word_embeddings=True,
            rms_norm_eps=1e-3,
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**LLAMA, **SPECIAL, sliding_window=4)),
    "bert": lambda: BertModel(BertConfig(**BERT)),
    "bert without a pooler": lambda: BertModel(BertConfig(**BERT), add_pooling_layer=False),
    "vit": lambda: ViTModel(ViTConfig(**VIT)),
    "vit without a pooler": lambda: ViTModel(
        ViTConfig(**VIT | {"hidden_act": "gelu_new", "num_channels": 2}), add_pooling_layer=False
    ),
}
LANGUAGE = [name for name in MAKERS if "bert" not in name and "vit" not in name]


def made(name, scale=5.0):
    """A model of Transformers with larger weights than initially, so that errors show."""
    torch.manual_seed(0)
    module = MAKERS[name]().eval()
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight *= scale
            else:
                weight += 0.1 * torch.randn_like(weight)
    return module


def ids(batch=3, time=TIME, seed=1):
    return random.generator((seed, batch, time)).integers(0, VOCABULARY, (batch, time))


def outputs_of(module, model, params):
    """Return the outputs of both models, as lists."""
    with torch.no_grad():
        if isinstance(module, ViTModel):
            size = (3, module.config.num_channels, 16, 16)
            images = random.generator(4).normal(size=size).astype(np.float32)
            y, theirs = model(params, images), module(torch.tensor(images))
        elif isinstance(module, BertModel):
            words, mask = ids(), np.arange(TIME) < np.array([[12], [5], [9]])
            types = (np.arange(TIME) > 4).astype(int) + np.zeros_like(words)
            y = model(params, (words, mask, types))
            given = {"attention_mask": torch.tensor(mask), "token_type_ids": torch.tensor(types)}
            theirs = module(torch.tensor(words), **given)
            theirs["last_hidden_state"] *= torch.tensor(mask)[..., None]
            first = y[0] if isinstance(y, tuple) else y
            masked = first * mask[..., None]
            y = (masked, *y[1:]) if isinstance(y, tuple) else masked
        else:
            words = ids()
            return [model(params, words)], [module(torch.tensor(words)).logits.numpy()]
    ours = y if isinstance(y, tuple) else (y,)
    theirs = (theirs.last_hidden_state, theirs.pooler_output)[: len(ours)]
    return list(ours), [array.float().numpy() for array in theirs]


def assert_close(found, expected, tolerance=1e-4):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        bound = tolerance * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("name", MAKERS)
def test_outputs_agree_with_transformers(name, tmp_path):
    module = made(name)
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path)
    assert {leaf.dtype.name for leaf in tree.leaves(params)} == {"float32"}
    assert tree.count(params) == sum(weight.numel() for weight in module.parameters())
    assert_close(*outputs_of(module, model, params))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_sharded_files_are_read(name, tmp_path):
    module = made(name)
    module.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model, params = models.pretrained(tmp_path)
    assert_close(*outputs_of(module, model, params))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_half_precision_is_widened(name, dtype, tmp_path):
    module = made(name).to(dtype)
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path)
    assert {leaf.dtype.name for leaf in tree.leaves(params)} == {"float32"}
    assert_close(*outputs_of(module.float(), model, params))


@pytest.mark.parametrize("name", LANGUAGE)
def test_greedy_tokens_are_equal(name, tmp_path):
    module, prompt = made(name), ids(batch=4, time=3)
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path)
    found = F.generate(model, params, prompt, length=16, temperature=0)
    expected = module.generate(
        torch.tensor(prompt),
        attention_mask=torch.ones(prompt.shape, dtype=int),
        do_sample=False,
        max_new_tokens=16,
        pad_token_id=0,
    )
    assert np.array_equal(found, expected[:, 3:].numpy())


def test_beam_search_finds_the_sequences_of_transformers(tmp_path):
    module, prompt = made("llama", 3.0), ids(batch=3, time=4)
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path)
    found = F.generate(model, params, prompt, length=6, beam=4)
    expected = module.generate(
        torch.tensor(prompt),
        attention_mask=torch.ones(prompt.shape, dtype=int),
        do_sample=False,
        num_beams=4,
        max_new_tokens=6,
        pad_token_id=0,
    )
    assert np.array_equal(found, expected[:, 4:].numpy())


def test_gradients_agree_with_transformers(tmp_path):
    module = made("llama, tied", 2.0).double()
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path, dtype=np.float64)
    words, targets = ids(), ids(seed=2)
    loss, grads, _ = F.value_and_grad(model, F.softmax_cross_entropy)(params, words, targets)
    logits = module(torch.tensor(words)).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).ravel())
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-5)
    weight = module.model.embed_tokens.weight.grad.numpy()
    np.testing.assert_allclose(grads["words"]["table"], weight, rtol=0, atol=1e-6)
    block = module.model.layers[1]
    parts = [getattr(block.self_attn, f"{part}_proj").weight.grad.numpy().T for part in "qkv"]
    found = grads["blocks"][1]["attention"]["weight"]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), rtol=0, atol=1e-6)


# Sources


def test_a_state_dict_or_a_file_with_its_configuration_is_a_source(tmp_path):
    module = made("gpt2")
    module.save_pretrained(tmp_path)
    expected = models.pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    file = tmp_path / "model.safetensors"
    for found in (
        models.pretrained(module.state_dict(), config),  # has the tied embedding twice
        models.pretrained(file),
        models.pretrained(str(file), config),
        models.pretrained(module.transformer.state_dict(), config),  # without the prefix
    ):
        assert found[0] == expected[0]
        assert tree.all_close(found[1], expected[1], rtol=0, atol=0)


def test_a_model_without_its_head_is_a_source(tmp_path):
    torch.manual_seed(0)
    module = GPT2Model(GPT2Config(**GPT2, **SPECIAL)).eval()
    module.save_pretrained(tmp_path)
    model, params = models.pretrained(tmp_path)
    with torch.no_grad():
        hidden = module(torch.tensor(ids())).last_hidden_state @ module.wte.weight.T
    assert_close([model(params, ids())], [hidden.numpy()])


def test_the_models_are_plain_values(tmp_path):
    for name, config in (("gpt2", GPT2), ("llama", LLAMA), ("bert", BERT), ("vit", VIT)):
        model = getattr(models, name)(config)
        assert F.from_config(json.loads(json.dumps(model.config()))) == model
        assert F.summary(
            model, (3, 16, 16) if name == "vit" else ((5,),) * 3 if name == "bert" else (5,)
        )


def test_weights_can_be_written_back(tmp_path):
    module = made("llama")
    module.save_pretrained(tmp_path)
    params = models.pretrained(tmp_path)[1]
    checkpoint.save(tmp_path / "ours.safetensors", params)
    again = checkpoint.load(tmp_path / "ours.safetensors", like=params)
    assert tree.all_close(again, params, rtol=0, atol=0)


# Errors


def source(**changes):
    """The arrays and the configuration of a small Llama, with changes of the configuration."""
    module = made("llama")
    return dict(module.state_dict()), json.loads(module.config.to_json_string()) | changes


CONFIGS = {
    "scaled rotary positions": (
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0}},
        "models.llama: the entry 'rope_type' .* must be 'default', the only value .* got 'llama3'",
    ),
    "scaled, in old files": (
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "the entry 'rope_scaling' .* got {'type': 'linear'",
    ),
    "biases": ({"attention_bias": True}, "the entry 'attention_bias' .* got True"),
    "another activation": ({"hidden_act": "gelu"}, "the entry 'hidden_act' .* got 'gelu'"),
    "wide heads": ({"head_dim": 16}, "the entry 'head_dim' .* must be 6"),
    "no size": (
        {"hidden_size": "24"},
        "the entry 'hidden_size' .* must be a positive int, got '24'",
    ),
    "no epsilon": ({"rms_norm_eps": 0}, "the entry 'rms_norm_eps' .* a number above 0, got 0"),
    "no flag": ({"tie_word_embeddings": 1}, "'tie_word_embeddings' .* true or false, got 1"),
    "unknown": (
        {"model_type": "t5"},
        "model_type of the configuration is 't5'; npdl has bert, gpt2",
    ),
    "no type": ({"model_type": None}, "is None; npdl has bert"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_npdl_does_not_compute_is_refused(name):
    changes, message = CONFIGS[name]
    arrays, config = source(**changes)
    with pytest.raises(ValueError, match=message):
        models.pretrained(arrays, config)


def without(name):
    arrays, config = source()
    return {key: array for key, array in arrays.items() if key != name}, config


def with_array(name, array):
    arrays, config = source()
    return arrays | {name: array}, config


BROKEN = {
    "a missing array": (
        lambda: without("model.layers.1.mlp.up_proj.weight"),
        "model.layers.1.mlp.up_proj.weight",
    ),
    "a missing layer": (
        lambda: source(num_hidden_layers=3),
        r"nothing was loaded. It lacks model.layers.2.self_attn.q_proj.weight, .*layers.2",
    ),
    "an unexpected array": (
        lambda: with_array("model.layers.0.self_attn.q_proj.bias", np.ones(24, np.float32)),
        "unexpected: model.layers.0.self_attn.q_proj.bias",
    ),
    "another shape": (
        lambda: with_array("model.norm.weight", np.ones(25, np.float32)),
        "of another shape: model.norm.weight is \\[25\\]",
    ),
    "another model": (
        lambda: ({"wte.weight": np.ones((2, 2), np.float32)}, source()[1]),
        "has no array model.embed_tokens.weight; is it of another model than llama",
    ),
    "a tied embedding that differs": (
        lambda: source(tie_word_embeddings=True),
        "different arrays model.embed_tokens.weight and lm_head.weight",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_do_not_fit_are_refused(name):
    make, message = BROKEN[name]
    with pytest.raises(checkpoint.CheckpointError, match=message):
        models.pretrained(*make())


def test_further_arrays_are_ignored_if_wanted():
    arrays, config = with_array("score.weight", np.ones((2, 24), np.float32))
    with pytest.raises(checkpoint.CheckpointError, match=r"unexpected: score\.weight"):
        models.pretrained(arrays, config)
    model, params = models.pretrained(arrays, config, partial=True)
    assert model(params, ids()).shape == (3, TIME, VOCABULARY)


def test_a_missing_or_damaged_configuration_is_named(tmp_path):
    made("vit").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(checkpoint.CheckpointError, match=r"config.json is damaged"):
        models.pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json does not exist; pass .* config="):
        models.pretrained(tmp_path)
    with pytest.raises(ValueError, match="a mapping of arrays needs config="):
        models.pretrained({"a": np.ones(3)})
    with pytest.raises(TypeError, match="expected the configuration as a dict"):
        models.gpt2("config.json")


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_a_configuration_cannot_request_more_than_the_file_has(tmp_path, name):
    MAKERS[name]().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    entry = "n_layer" if name == "gpt2" else "num_hidden_layers"
    with pytest.raises(checkpoint.CheckpointError, match=rf"{entry} is {10**12}, but"):
        models.pretrained(tmp_path, config | {entry: 10**12})
    entry = "image_size" if name == "vit" else "vocab_size"
    with pytest.raises(checkpoint.CheckpointError, match="file has fewer numbers"):
        models.pretrained(tmp_path, config | {entry: 4 * 10**12})


def test_a_configuration_of_any_length_is_not_read(tmp_path):
    (tmp_path / "config.json").write_text(" " * (1 << 24) + "{}", encoding="utf-8")
    with pytest.raises(
        checkpoint.CheckpointError, match=r"config.json is damaged: it has more than 16777216"
    ):
        models.pretrained(tmp_path)
