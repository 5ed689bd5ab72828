"""A model of npdl in PyTorch, with the same parameters.

Each function builds the counterpart of the constructor with its name, from the parameters and the
constructor's arguments.
"""

import numpy as np
import torch
from torch import nn


def module(model, params):
    """Return a PyTorch module with the same outputs as the model of npdl."""
    call = model.call
    return MODULES[call.name](params, *call.positional, **call.keywords)


def serial(params, *layers):
    return nn.Sequential(*map(module, layers, params))


def dense(params, units):
    weight = params["weight"].T
    return copied(nn.Linear(*weight.shape[::-1]), weight=weight, bias=params["bias"])


def conv2d(params, filters, kernel_size, padding="valid"):
    layer = nn.Conv2d(params["weight"].shape[1], filters, kernel_size, padding=padding)
    return copied(layer, **params)


def embedding(params, vocabulary, units):
    return copied(nn.Embedding(vocabulary, units), weight=params["table"])


def transformer_encoder_block(params, heads, hidden_units):
    attention, (first, *_, second) = params["attention"], params["feed_forward"]
    layer = nn.TransformerEncoderLayer(
        len(attention["weight"]), heads, hidden_units, dropout=0, batch_first=True, norm_first=True
    )
    arrays = {
        "self_attn.in_proj_weight": attention["weight"].T,
        "self_attn.in_proj_bias": attention["bias"],
        "self_attn.out_proj.weight": attention["output_weight"].T,
        "self_attn.out_proj.bias": attention["output_bias"],
    }
    for name, part in (("linear1", first), ("linear2", second)):
        arrays |= {f"{name}.weight": part["weight"].T, f"{name}.bias": part["bias"]}
    for name, part in (("norm1", "attention_norm"), ("norm2", "feed_forward_norm")):
        arrays |= {f"{name}.weight": params[part]["scale"], f"{name}.bias": params[part]["shift"]}
    return copied(layer, **arrays)


def lstm(params, units, return_sequence=False):
    # PyTorch has another order of gates, and a second bias, which stays zero.
    order = (1, 2, 0, 3)
    layer = nn.LSTM(len(params["weight"]), units, batch_first=True)
    names = {"weight": "weight_ih_l0", "recurrent_weight": "weight_hh_l0", "bias": "bias_ih_l0"}
    arrays = {
        theirs: np.concatenate([np.split(params[ours].T, 4)[gate] for gate in order])
        for ours, theirs in names.items()
    }
    copied(layer, **arrays, bias_hh_l0=np.zeros(4 * units, np.float32))
    layer.bias_hh_l0.requires_grad = False
    return Recurrent(layer, return_sequence)


def gru(params, units, return_sequence=False):
    layer = nn.GRU(len(params["weight"]), units, batch_first=True)
    copied(
        layer,
        weight_ih_l0=params["weight"].T,
        weight_hh_l0=params["recurrent_weight"].T,
        bias_ih_l0=params["bias"],
        bias_hh_l0=params["recurrent_bias"],
    )
    return Recurrent(layer, return_sequence)


MODULES = {
    "conv2d": conv2d,
    "dense": dense,
    "embedding": embedding,
    "flatten": lambda params: nn.Flatten(),
    "gru": gru,
    "lstm": lstm,
    "max_pool2d": lambda params, size: nn.MaxPool2d(size),
    "mean_over_time": lambda params: MeanOverTime(),
    "relu": lambda params: nn.ReLU(),
    "serial": serial,
    "transformer_encoder_block": transformer_encoder_block,
}


class Recurrent(nn.Module):
    """A recurrent layer that returns all its outputs, or the last one."""

    def __init__(self, inner, return_sequence):
        super().__init__()
        self.inner, self.return_sequence = inner, return_sequence

    def forward(self, x):
        y, _ = self.inner(x)
        return y if self.return_sequence else y[:, -1]


class MeanOverTime(nn.Module):
    """The mean over the steps of a sequence."""

    def forward(self, x):
        return x.mean(dim=1)


def copied(layer, **arrays):
    """Copy the arrays into all parameters of a module, and return it."""
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    layer.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
    return layer
