"""Agreement of the recurrent layers with PyTorch: all outputs and all gradients."""

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")

BATCH, TIME, FEATURES, UNITS = 3, 7, 5, 4
LENGTHS = torch.tensor([7, 2, 5])
MASK = np.arange(TIME) < LENGTHS.numpy()[:, None]


def relu_rnn(units, **options):
    return F.rnn(units, activation=F.relu(), **options)


# Our constructor, PyTorch's, its options, and the number of its block that is our first, second...
KINDS = {
    "rnn": (F.rnn, torch.nn.RNN, {}, [0]),
    "rnn, relu": (relu_rnn, torch.nn.RNN, {"nonlinearity": "relu"}, [0]),
    "gru": (F.gru, torch.nn.GRU, {}, [0, 1, 2]),
    "lstm": (F.lstm, torch.nn.LSTM, {}, [2, 0, 1, 3]),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
each_type = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)


def converted(module, order, suffix, of=lambda tensor: tensor):
    """Parameters of PyTorch, or with another `of` their gradients, in our layout."""

    def ours(name):
        array = of(getattr(module, name + suffix)).detach().numpy()
        blocks = np.split(array, len(order))
        return np.concatenate([blocks[i] for i in order]).T

    params = {"weight": ours("weight_ih_l0"), "recurrent_weight": ours("weight_hh_l0")}
    bias, recurrent_bias = ours("bias_ih_l0"), ours("bias_hh_l0")
    if isinstance(module, torch.nn.GRU):
        return {**params, "bias": bias, "recurrent_bias": recurrent_bias}
    # The sum of both has the gradient of either.
    return {**params, "bias": bias if of is gradient else bias + recurrent_bias}


def gradient(tensor):
    return tensor.grad


def tensors(value):
    return tree.map(lambda array: torch.tensor(array, requires_grad=True), value)


def check(found, expected, tolerance):
    pairs = tree.map(lambda a, b: np.abs(a - b).max() / max(1, np.abs(b).max()), found, expected)
    assert tree.paths(found) == tree.paths(expected)
    assert max(tree.leaves(pairs)) <= tolerance


@each_kind
@each_type
@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "state"])
def test_sequences_states_and_gradients_agree(kind, dtype, tolerance, both, masked, given):
    constructor, peer, options, order = kind
    torch.manual_seed(0)
    module = peer(FEATURES, UNITS, batch_first=True, bidirectional=both, **options)
    module = module.to(torch.float32 if dtype == np.float32 else torch.float64)
    layer = constructor(UNITS, return_sequence=True, return_state=True)
    layer = F.bidirectional(layer) if both else layer
    suffixes = ["", "_reverse"] if both else [""]

    def in_pairs(arrays):
        """Arrays (directions, batch, units), one or h and c, as our state."""
        parts = [tuple(a[i] for a in arrays) for i in range(len(suffixes))]
        parts = [part if len(part) > 1 else part[0] for part in parts]
        return tuple(parts) if both else parts[0]

    n_arrays = 2 if peer is torch.nn.LSTM else 1
    x = normal(BATCH, TIME, FEATURES, seed=1, dtype=dtype)
    state = [normal(len(suffixes), BATCH, UNITS, seed=2 + i, dtype=dtype) for i in range(n_arrays)]
    g = normal(BATCH, TIME, UNITS * len(suffixes), seed=4, dtype=dtype)
    g_state = [normal(*a.shape, seed=5 + i, dtype=dtype) for i, a in enumerate(state)]
    if masked:
        g[~MASK] = 0

    x_tensor, state_tensors = tensors(x), tensors(state)
    packed = x_tensor
    if masked:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x_tensor, LENGTHS, batch_first=True, enforce_sorted=False
        )
    hidden = tuple(state_tensors) if n_arrays > 1 else state_tensors[0]
    peer_y, peer_last = module(packed, hidden) if given else module(packed)
    if masked:
        peer_y, _ = torch.nn.utils.rnn.pad_packed_sequence(peer_y, batch_first=True)
    peer_last = peer_last if n_arrays > 1 else (peer_last,)
    torch.autograd.backward(
        [peer_y, *peer_last], [torch.tensor(g), *(torch.tensor(a) for a in g_state)]
    )

    params = [converted(module, order, suffix) for suffix in suffixes]
    params = tuple(params) if both else params[0]
    mask = MASK if masked else None
    (y, last), cache = layer.apply(params, (x, mask, in_pairs(state) if given else None))
    grads, (dx, _, d_state) = layer.backward(params, cache, (g, in_pairs(g_state)))
    expected = [converted(module, order, suffix, gradient) for suffix in suffixes]
    expected_y = peer_y.detach().numpy()
    check(np.where(MASK[..., None] | (not masked), y, expected_y), expected_y, tolerance)
    check(last, in_pairs([a.detach().numpy() for a in peer_last]), tolerance)
    check(grads, tuple(expected) if both else expected[0], tolerance)
    check(dx, x_tensor.grad.numpy(), tolerance)
    if given:
        check(d_state, in_pairs([a.grad.numpy() for a in state_tensors]), tolerance)


@each_kind
@each_type
def test_a_single_step_agrees_with_the_cell(kind, dtype, tolerance):
    constructor, peer, options, order = kind
    cells = {torch.nn.RNN: torch.nn.RNNCell, torch.nn.GRU: torch.nn.GRUCell}
    cell = cells.get(peer, torch.nn.LSTMCell)(FEATURES, UNITS, **options)
    cell = cell.to(torch.float32 if dtype == np.float32 else torch.float64)
    sequence = peer(FEATURES, UNITS, batch_first=True, **options).to(cell.weight_ih.dtype)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(sequence, f"{name}_l0", getattr(cell, name))
    params = converted(sequence, order, "")
    x = normal(BATCH, FEATURES, seed=1, dtype=dtype)
    arrays = [normal(BATCH, UNITS, seed=2 + i, dtype=dtype) for i in range(1 + (len(order) == 4))]
    state = tuple(arrays) if len(arrays) > 1 else arrays[0]
    y, last = F.one_step(constructor(UNITS))(params, (x, state))
    expected = cell(*tensors((x, state)))
    check(last, tree.map(lambda part: part.detach().numpy(), expected), tolerance)
    check(y, last[0] if len(arrays) > 1 else last, 0)


@each_type
def test_stacked_layers_agree(dtype, tolerance):
    module = torch.nn.LSTM(FEATURES, UNITS, num_layers=2, batch_first=True)
    module = module.to(torch.float32 if dtype == np.float32 else torch.float64)
    order = KINDS["lstm"][3]

    class Second(torch.nn.Module):
        """The second layer under the names of a first."""

        def __getattr__(self, name):
            return getattr(module, name.replace("_l0", "_l1"))

    params = converted(module, order, ""), converted(Second(), order, "")
    model = F.serial(F.lstm(UNITS, return_sequence=True), F.lstm(UNITS))
    x = normal(BATCH, TIME, FEATURES, seed=1, dtype=dtype)
    g = normal(BATCH, UNITS, seed=2, dtype=dtype)
    x_tensor = tensors(x)
    expected = module(x_tensor)[0][:, -1]
    expected.backward(torch.tensor(g))
    y, cache = model.apply(params, x)
    grads, dx = model.backward(params, cache, g)
    check(y, expected.detach().numpy(), tolerance)
    check(dx, x_tensor.grad.numpy(), tolerance)
    for found, one in zip(grads, (module, Second()), strict=True):
        check(found, converted(one, order, "", gradient), tolerance)
