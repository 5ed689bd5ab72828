"""Parameters of models go back into the modules of Transformers, which load them strictly."""

import warnings

import numpy as np
import pytest
from arrays import normal

from npdl import checkpoint, models, tree
from npdl.models._bert import bert_names
from npdl.models._llama import llama_names

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
SIZES |= {"vocab_size": 50, "hidden_size": 24, "max_position_embeddings": 32}
SPECIAL = {"bos_token_id": None, "eos_token_id": None}
MODULES = {
    "bert": (lambda: BertModel(BertConfig(**SIZES)), lambda config: bert_names("", config, True)),
    "llama": (
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **SPECIAL, num_key_value_heads=2)),
        lambda config: llama_names("model.", config),
    ),
}


@pytest.mark.parametrize(("make", "names"), MODULES.values(), ids=MODULES)
def test_written_weights_are_loaded_strictly_and_agree(make, names):
    module = make().eval()
    config = module.config.to_dict()
    model, params = models.pretrained(module.state_dict(), config)
    leaves = tree.leaves(params)
    changed = [a + 0.1 * normal(*a.shape, seed=i) for i, a in enumerate(leaves)]
    params = tree.unflatten(params, changed)
    arrays = checkpoint.to_torch(params, model, names(config))
    module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()}, strict=True)
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with torch.no_grad():
        expected = module(torch.tensor(ids))[0].numpy()
    x = (ids, None, np.zeros_like(ids)) if isinstance(module, BertModel) else ids
    found = model(params, x)
    found = found[0] if isinstance(found, tuple) else found
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
