"""The documented import paths name the modules of npdl.compat, which have all documented names."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import npdl
import npdl.compat

NAMES = {
    "layers": "Layer Linear Dense Softmax Dropout Convolution Embedding BatchNormal MeanPooling "
    "MaxPooling Recurrent SimpleRNN GRU LSTM BatchLSTM Flatten DimShuffle",
    "activations": "Activation Sigmoid Tanh ReLU Linear Softmax Elliot SymmetricElliot SoftPlus "
    "SoftSign get",
    "initializations": "Initializer Zero One Uniform Normal LecunUniform GlorotUniform "
    "GlorotNormal HeNormal HeUniform Orthogonal decompose_size get",
    "objectives": "Objective MeanSquaredError MSE HellingerDistance HeD BinaryCrossEntropy BCE "
    "SoftmaxCategoricalCrossEntropy SCCE get",
    "optimizers": "Optimizer SGD Momentum NesterovMomentum Adagrad RMSprop Adadelta Adam Adamax "
    "npdl_clip get",
    "model": "Model",
    "utils": "one_hot unhot get_rng set_rng set_seed get_dtype set_dtype",
    "utils.data": "one_hot unhot",
    "utils.random": "get_rng set_rng set_seed get_dtype set_dtype",
}


@pytest.mark.parametrize("module", NAMES)
def test_both_paths_give_the_same_module_with_all_names(module):
    old = importlib.import_module(f"npdl.{module}")
    assert old is importlib.import_module(f"npdl.compat.{module}")
    for name in NAMES[module].split():
        assert hasattr(old, name), f"npdl.{module} has no {name}"
        assert inspect.getdoc(getattr(old, name)), f"npdl.{module}.{name} has no docstring"
        if module != "model":
            assert name in old.__all__


def test_all_paths_give_one_model_class():
    assert npdl.Model is npdl.model.Model is npdl.compat.Model is npdl.compat.model.Model


def test_no_module_is_imported_twice():
    for found in pkgutil.walk_packages(npdl.compat.__path__, "npdl.compat."):
        new = importlib.import_module(found.name)
        assert new.__spec__.name == found.name
        if "._" not in found.name:
            assert importlib.import_module(found.name.replace(".compat", "", 1)) is new
            assert new.__spec__.name == found.name


ORDERS = [
    "from npdl.activations import ReLU",
    "import npdl.utils.random",
    "from npdl.utils.data import one_hot",
    "from npdl.layers.recurrent import SimpleRNN",
    "import npdl.compat.layers",
    "from npdl import *",
    "import npdl; npdl.layers.recurrent",
]


@pytest.mark.parametrize("first", ORDERS)
def test_any_path_can_be_the_first_import(first):
    program = f"{first}\nimport npdl\nassert npdl.layers.Dense is npdl.compat.layers.Dense"
    subprocess.run([sys.executable, "-c", program], check=True)


SIGNATURES = {
    "layers.Linear": "(n_out, n_in=None, init='glorot_uniform')",
    "layers.Dense": "(n_out, n_in=None, init='glorot_uniform', activation='tanh')",
    "layers.Softmax": "(n_out, n_in=None, init='glorot_uniform')",
    "layers.Dropout": "(p=0.0)",
    "layers.Convolution": "(nb_filter, filter_size, input_shape=None, stride=1, "
    "init='glorot_uniform', activation='relu')",
    "layers.Embedding": "(embed_words=None, static=None, input_size=None, n_out=None, "
    "nb_batch=None, nb_seq=None, init='uniform')",
    "layers.BatchNormal": "(epsilon=1e-06, momentum=0.9, axis=0, beta_init='zero', "
    "gamma_init='one'",
    "layers.MeanPooling": "(pool_size)",
    "layers.MaxPooling": "(pool_size)",
    "layers.Recurrent": "(n_out, n_in=None, nb_batch=None, nb_seq=None, init='glorot_uniform', "
    "inner_init='orthogonal', activation='tanh', return_sequence=False)",
    "layers.SimpleRNN": "(**kwargs)",
    "layers.GRU": "(gate_activation='sigmoid', need_grad=True, **kwargs)",
    "layers.LSTM": "(gate_activation='sigmoid', need_grad=True, forget_bias_num=1, **kwargs)",
    "layers.BatchLSTM": "(gate_activation='sigmoid', need_grad=True, forget_bias_num=1, **kwargs)",
    "layers.Flatten": "(outdim=2)",
    "layers.DimShuffle": "(axis=1)",
    "activations.Elliot": "(steepness=1)",
    "activations.SymmetricElliot": "(steepness=1)",
    "objectives.BinaryCrossEntropy": "(epsilon=1e-11)",
    "objectives.SoftmaxCategoricalCrossEntropy": "(epsilon=1e-11)",
    "optimizers.SGD": "(*args, **kwargs)",
    "optimizers.Momentum": "(momentum=0.9, *args, **kwargs)",
    "optimizers.NesterovMomentum": "(momentum=0.9, *args, **kwargs)",
    "optimizers.Adagrad": "(epsilon=1e-06, *args, **kwargs)",
    "optimizers.RMSprop": "(rho=0.9, epsilon=1e-06, *args, **kwargs)",
    "optimizers.Adadelta": "(rho=0.9, epsilon=1e-06, *args, **kwargs)",
    "optimizers.Adam": "(beta1=0.9, beta2=0.999, epsilon=1e-08, *args, **kwargs)",
    "optimizers.Adamax": "(beta1=0.9, beta2=0.999, epsilon=1e-08, *args, **kwargs)",
    "optimizers.Optimizer": "(lr=0.001, clip=-1, decay=0.0, lr_min=0.0, lr_max=inf)",
    "model.Model": "(layers=None)",
    "utils.one_hot": "(labels, nb_classes=None)",
}


@pytest.mark.parametrize(("path", "expected"), SIGNATURES.items())
def test_the_signature_is_as_documented(path, expected):
    module, name = path.split(".")
    value = getattr(importlib.import_module(f"npdl.{module}"), name)
    signature = inspect.signature(value)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    shown = str(inspect.Signature(bare))
    assert shown == expected or (not expected.endswith(")") and shown.startswith(expected))
