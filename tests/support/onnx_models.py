"""Exported models in onnxruntime, compared with npdl."""

import numpy as np
import pytest

from npdl import onnx, tree

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def session(path):
    """Return a session of onnxruntime with one thread and without warnings."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(running, x):
    """Return the inputs of a session by name; ids of any integer type become int64."""
    arrays = [
        array.astype(np.int64) if array.dtype.kind in "iu" else array for array in tree.leaves(x)
    ]
    names = [value.name for value in running.get_inputs()]
    return dict(zip(names, arrays, strict=True))


def agree(running, model, params, x, tolerance=1e-5):
    """Assert that a session computes the outputs of npdl for inputs."""
    found = running.run(None, feed(running, x))
    expected = tree.leaves(model(params, x))
    assert [array.shape for array in found] == [array.shape for array in expected]
    assert [array.dtype for array in found] == [array.dtype for array in expected]
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=tolerance, atol=tolerance)


def exported(folder, model, params, shape, **options):
    """Write a model to a file, and return a session."""
    path = folder / "model.onnx"
    onnx.save(path, model, params, shape, **options)
    return session(path)


def shape_of(x, shape):
    """Return the shape of an example, `None` for a missing input."""
    if isinstance(x, tuple):
        return tuple(map(shape_of, x, shape))
    return None if x is None else shape


def noisy(params, seed=0):
    """Return parameters with noise, so that none is zero."""
    generator = np.random.default_rng(seed)
    return tree.map(
        lambda array: (array + 0.2 * generator.normal(size=array.shape)).astype(array.dtype), params
    )
