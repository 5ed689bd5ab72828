"""ONNX files: names, data types, equal bits, and refusals before a file changes."""

import copy
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from onnx_models import agree, exported, noisy, session

import npdl
import npdl.functional as F
from npdl import onnx, tree

MODEL = F.serial(F.dense(4), F.batch_norm(), F.relu(), F.freeze(F.dense(2)))


def trained(model=MODEL, shape=(3,)):
    """Return parameters with running statistics."""
    params = noisy(model.init(0, shape))
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    return model.update_stats(params, model.apply(params, x, train=True)[1])


def described(running):
    found = []
    for values in (running.get_inputs(), running.get_outputs()):
        found.append({value.name: (value.type[7:-1], value.shape) for value in values})
    return found


def test_a_graph_has_its_names(tmp_path):
    model = F.graph(
        ("ids", "mask", "state"),
        {
            "words": (F.embedding(7, 3), "ids"),
            ("steps", "last"): (
                F.lstm(4, return_sequence=True, return_state=True),
                ("words", "mask", "state"),
            ),
            "scores": (F.dense(2), "steps"),
        },
        ("scores", "last", "mask"),
    )
    shape = ((None,), (None,), ((4,), (4,)))
    params = model.init(0, ((5,), (5,), ((4,), (4,))))
    inputs, outputs = described(exported(tmp_path, model, params, shape))
    assert inputs == {
        "ids": ("int64", ["batch", "ids_axis1"]),
        "mask": ("bool", ["batch", "mask_axis1"]),
        "state_0": ("float", ["batch", 4]),
        "state_1": ("float", ["batch", 4]),
    }
    assert outputs == {
        "scores": ("float", ["batch", "scores_axis1", 2]),
        "last_0": ("float", ["batch", 4]),
        "last_1": ("float", ["batch", 4]),
        "mask_1": ("bool", ["batch", "mask_1_axis1"]),
    }


@pytest.mark.parametrize(
    ("model", "shape", "inputs", "outputs"),
    [
        (F.dense(2), (3,), ["input"], ["output"]),
        (F.serial(F.dense(2)), (3,), ["input"], ["output"]),
        (F.serial(), (3,), ["input"], ["output"]),
        (F.freeze(F.dense(2)), (3,), ["input"], ["output"]),
        (F.parallel(F.dense(2), F.dense(3), join=None), (3,), ["input"], ["output_0", "output_1"]),
        (F.add(), ((3,), (3,)), ["input_0", "input_1"], ["output"]),
        (F.stack(F.gru(3)), ((5, 2), (5,)), ["input", "more2"], ["output"]),
        (F.gru(3), ((5, 2), None, (3,)), ["input_0", "input_2"], ["output"]),
        (
            F.serial(F.graph(("a", "b"), {"c": (F.add(), ("a", "b"))}, "c"), F.relu()),
            ((3,), (3,)),
            ["a", "b"],
            ["output"],
        ),
        (
            F.bidirectional(F.lstm(2, return_state=True), join=None),
            (5, 3),
            ["x"],
            [
                *("forward", "reverse", "forward_last_0", "forward_last_1"),
                *("reverse_last_0", "reverse_last_1"),
            ],
        ),
        (F.graph("x", {"y": (F.relu(), "x")}, ("x", "y", "y")), (3,), ["x"], ["x_1", "y", "y_1"]),
    ],
    ids=lambda value: repr(value)[:50] if isinstance(value, F.Layer) else "",
)
def test_inputs_and_outputs_are_named(model, shape, inputs, outputs, tmp_path):
    whole = tuple(s for s in shape if s is not None) if None in shape else shape
    params = model.init(0, whole if model != F.gru(3) else (5, 2))
    running = exported(tmp_path, model, params, shape)
    assert [value.name for value in running.get_inputs()] == inputs
    assert [value.name for value in running.get_outputs()] == outputs


def test_parameters_keep_their_paths_and_are_stored_once(tmp_path):
    import onnx as library

    shared = F.dense(3)
    tied = F.Layer(
        shared.init,
        lambda params, x: (shared(params, shared(params, x)), None),
        lambda params, cache, g: (None, None),
        lambda shape: shape,
        parts=F.parts("x", {"a": (shared, "x", ()), "b": (shared, "a", ())}, "b"),
    )
    params = tied.init(0, (3,))
    running = exported(tmp_path, tied, params, (3,))
    agree(running, tied, params, np.ones((2, 3), np.float32))
    proto = library.load(tmp_path / "model.onnx")
    assert sorted(constant.name for constant in proto.graph.initializer) == ["bias", "weight"]
    onnx.save(tmp_path / "model.onnx", MODEL, trained(), (3,))
    proto = library.load(tmp_path / "model.onnx")
    names = {constant.name for constant in proto.graph.initializer}
    assert {"0/weight", "0/bias", "3/weight", "3/bias"} <= names
    assert [proto.opset_import[0].version, proto.ir_version, proto.producer_name] == [13, 7, "npdl"]


def test_the_same_arguments_give_the_same_bits(tmp_path):
    params = trained()
    for name in ("a", "b"):
        onnx.save(tmp_path / name, MODEL, copy.deepcopy(params), (3,))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_parameters_are_not_written(tmp_path):
    params = F.embedding(5, 2, padding_id=1).init(0, (3,))
    params["table"][1] = 7
    params["table"].flags.writeable = False
    running = exported(tmp_path, F.embedding(5, 2, padding_id=1), params, (3,))
    agree(running, F.embedding(5, 2, padding_id=1), params, np.array([[1, 0, 4], [1, 1, 2]]))


def test_arrays_of_any_layout_are_exported(tmp_path):
    params = F.dense(3).init(0, (4,))
    strange = {
        "weight": np.asfortranarray(params["weight"]),
        "bias": np.repeat(params["bias"], 2)[::2],
    }
    running = exported(tmp_path, F.dense(3), strange, [np.int64(4)])
    agree(running, F.dense(3), params, np.ones((2, 4), np.float32))


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(0o600)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        onnx.save(path, MODEL, trained(), (3,))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    link = tmp_path / "link"
    link.symlink_to(path)
    onnx.save(link, MODEL, trained(), (3,))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    agree(session(path), MODEL, trained(), np.ones((2, 3), np.float32))


REFUSED = {
    "a model without statistics": (
        (MODEL, MODEL.init(0, (3,)), (3,)),
        ValueError,
        "no batch.*update_stats",
    ),
    "parameters of another model": (
        (F.dense(4), F.dense(5).init(0, (3,)), (3,)),
        ValueError,
        "takes params with the shapes",
    ),
    "parameters of another layer": (
        (F.serial(F.dense(4)), (F.layer_norm().init(0, (3,)),), (3,)),
        (KeyError, ValueError),
        "weight",
    ),
    "fewer parameters": ((F.serial(F.dense(4)), (), (3,)), ValueError, "parameters of 1 layers"),
    "other features": ((F.dense(4), F.dense(4).init(0, (3,)), (5,)), ValueError, "3 features"),
    "parameters of float64": (
        (F.dense(4), tree.astype(F.dense(4).init(0, (3,)), np.float64), (3,)),
        TypeError,
        r"bias is float64.*npdl.tree.astype\(params, np.float32\)",
    ),
    "parameters of float16": (
        (F.dense(4), tree.astype(F.dense(4).init(0, (3,)), np.float16), (3,)),
        TypeError,
        r"float16.*astype",
    ),
    "a masked array": (
        (F.dense(4), tree.map(np.ma.masked_array, F.dense(4).init(0, (3,))), (3,)),
        TypeError,
        "MaskedArray",
    ),
    "more inputs than the layer has": (
        (F.dense(4), F.dense(4).init(0, (3,)), ((3,), (3,))),
        TypeError,
        "tuple",
    ),
    "no shape": ((F.dense(4), F.dense(4).init(0, (3,)), 3), ValueError, r"such as \(64,\).*got 3"),
    "a shape of floats": (
        (F.relu(), (), (3.0,)),
        ValueError,
        r"such as \(64,\).*got \(3.0,\)",
    ),
    "no layer": ((F.dense, (), (3,)), TypeError, "expected a layer, got dense"),
    "a Model": ((npdl.Model(), (), (3,)), TypeError, r"export_onnx\(path\)"),
    "a dynamic size that must be known": (
        (F.dense(4), F.dense(4).init(0, (3,)), (None,)),
        ValueError,
        "shape of one example",
    ),
    "a short table": (
        (F.learned_positions(4), F.learned_positions(4).init(0, (4, 2)), (9, 2)),
        ValueError,
        "longer than the table",
    ),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_no_file(arguments, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        onnx.save(tmp_path / "model.onnx", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [12, 0, -1, 10_000, 13.0, True, "13", None])
def test_an_unknown_opset_is_refused(opset, tmp_path):
    with pytest.raises(ValueError, match=r"opset must be an int from 13 to \d+"):
        onnx.save(tmp_path / "model.onnx", F.relu(), (), (3,), opset=opset)
    assert not list(tmp_path.iterdir())


def test_parameters_beyond_two_gibibytes_are_refused(tmp_path):
    model = F.serial(F.dense(2**15), F.dense(2**15, bias=False))
    large = np.broadcast_to(np.float32(0), (2**15, 2**15))
    params = (model.call.positional[0].init(0, (3,)), {"weight": large})
    with pytest.raises(ValueError, match=r"take 4.0 GiB.*smaller than 2 GiB"):
        onnx.save(tmp_path / "model.onnx", model, params, (3,))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'npdl-functional\[onnx\]'"):
        onnx.save(tmp_path / "model.onnx", F.relu(), (), (3,))


def test_rules_are_registered_without_the_library():
    program = "import sys; sys.modules['onnx'] = None; from npdl import onnx; onnx.rule('mine')"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_dropout_and_noise_are_the_identity(tmp_path):
    model = F.serial(F.dropout(0.5), F.gaussian_noise(2.0), F.dense(2))
    params = model.init(0, (3,))
    running = exported(tmp_path, model, params, (3,))
    agree(running, model, params, np.ones((4, 3), np.float32))


def test_a_frozen_batch_norm_has_its_statistics(tmp_path):
    params = trained()
    model = F.freeze(attrs.evolve(MODEL))
    agree(exported(tmp_path, model, params, (3,)), model, params, np.ones((2, 3), np.float32))
