"""Allowed imports between folders: one table, ordered from the lowest layer to the highest."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import npdl

ROOT = Path(npdl.__file__).parent
FILES = {
    ".".join(("npdl", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}
OPTIONAL = {
    "autograd",
    "datasets",
    "h5py",
    "jax",
    "matplotlib",
    "mpi4py",
    "pandas",
    "polars",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboard",
    "zarr",
}
OPTIONAL |= {"onnx", "onnxruntime", "torch", "tqdm"}

VALUES = "tree random _constructor _calls _parameter_limit _warn"
PROTOCOL = f"{VALUES} functional/_checks functional/_dual functional/_arrays functional/_layer"
FUNCTIONAL = f"{PROTOCOL} functional/combinators functional/optimizers functional/metrics"
KERNELS = "functional/_kernels/blocks functional/_kernels/scalars functional/_kernels"
COMPAT = (
    f"{PROTOCOL} functional compat/_keras_arguments compat/_functions compat/_named compat/utils"
)
ONNX = "onnx/_graph onnx/_registry onnx/_shapes onnx/_values"

# Folder, or file of a folder with several levels → the folders that it may import. Each may import
# only folders above it in the table, which rules out circles.
TABLE = {
    "_version": "",
    "_documented_paths": "",
    "_warn": "",
    "_parameter_limit": "",
    "_other_libraries": "",
    "_calls": "_other_libraries",
    "_config": "",
    "_constructor": "_calls _config",
    "random": "",
    "tree": "_constructor",
    "_blas": "tree",
    "functional/_checks": "_calls",
    "functional/_adapters": "random tree functional/_checks",
    "functional/_dual_rules": "",
    "functional/_dual": "functional/_dual_rules",
    "functional/_arrays": "tree functional/_checks functional/_dual",
    "functional/_layer": f"{VALUES} functional/_checks functional/_arrays functional/_adapters",
    "functional/_kernels/blocks": "",
    "functional/_kernels/scalars": "tree",
    "functional/_kernels": "random tree functional/_kernels/blocks functional/_kernels/scalars",
    "functional/_kernels/conv": f"tree {KERNELS}",
    "functional/_images": "tree functional/_checks functional/_arrays functional/_kernels",
    "functional/_targets": PROTOCOL,
    "functional/_text_table": "",
    "functional/_initializers": PROTOCOL,
    "functional/layers/activations": f"{PROTOCOL} {KERNELS}",
    "functional/layers/attention": f"{PROTOCOL} functional/_initializers functional/_kernels",
    "functional/layers/recurrent": f"{PROTOCOL} functional/_initializers functional/_kernels "
    "functional/layers/activations",
    "functional/layers": f"{PROTOCOL} {KERNELS} functional/_images functional/_initializers "
    "functional/_kernels/conv functional/layers/activations functional/layers/attention "
    "functional/layers/recurrent",
    "functional/combinators": f"{PROTOCOL} functional/_kernels functional/layers "
    "functional/layers/activations functional/layers/attention",
    "functional/losses": f"{PROTOCOL} {KERNELS} functional/_targets",
    "functional/metrics": f"{PROTOCOL} functional/_targets",
    "functional/optimizers": f"{PROTOCOL} functional/_kernels/blocks functional/_kernels/scalars",
    "functional/_generation": f"{PROTOCOL} functional/combinators",
    "functional/_summary": f"{PROTOCOL} functional/_text_table functional/combinators",
    "functional/derivatives": f"{PROTOCOL} functional/_images functional/_kernels "
    "functional/_kernels/conv functional/layers functional/combinators functional/_summary "
    "functional/_text_table",
    "functional/_reestimate": f"{PROTOCOL} functional/layers functional/combinators",
    "functional/_from_config": "_config functional/_initializers functional/layers "
    "functional/combinators functional/derivatives functional/optimizers",
    "functional": "functional/_layer functional/_initializers functional/layers "
    "functional/combinators functional/derivatives functional/losses functional/metrics "
    "functional/optimizers functional/_summary functional/_reestimate functional/_from_config "
    "functional/_generation",
    "gradcheck": PROTOCOL,
    "checkpoint/_files": "",
    "checkpoint/weights": f"{PROTOCOL} functional/combinators checkpoint/_files",
    "checkpoint": "_version _blas tree checkpoint/_files checkpoint/weights",
    "_versions": "checkpoint",
    "callbacks": f"{PROTOCOL} checkpoint",
    "_data": PROTOCOL,
    "distributed": f"{PROTOCOL} functional/_kernels/blocks functional/optimizers _data",
    "data": f"{PROTOCOL} _data",
    "run": "distributed",
    "training": f"{FUNCTIONAL} _blas _data checkpoint checkpoint/_files callbacks distributed",
    "plot": f"{FUNCTIONAL} functional/derivatives",
    "sklearn": f"{PROTOCOL} functional callbacks training",
    "models": f"{PROTOCOL} functional checkpoint checkpoint/_files checkpoint/weights",
    "onnx/_registry": f"{PROTOCOL} functional/layers",
    "onnx/_values": "",
    "onnx/_shapes": f"{PROTOCOL} functional/combinators onnx/_values",
    "onnx/_graph": f"{PROTOCOL} functional/combinators onnx/_registry onnx/_shapes onnx/_values",
    "onnx/_rules": f"{PROTOCOL} {ONNX} functional functional/_images functional/combinators "
    "functional/layers/activations",
    "onnx": f"{PROTOCOL} {ONNX} _version functional/combinators checkpoint/_files onnx/_rules",
    "compat/_keras_arguments": "",
    "compat/utils": f"{PROTOCOL} functional/_targets",
    "compat/_functions": f"_config {PROTOCOL} functional functional/_from_config",
    "compat/_named": f"_config {PROTOCOL} compat/_keras_arguments compat/_functions",
    "compat/_checks": f"{PROTOCOL} compat/utils",
    "compat/activations": COMPAT,
    "compat/initializations": f"{COMPAT} functional/_initializers",
    "compat/objectives": f"{COMPAT} functional/_kernels functional/_targets",
    "compat/_optimizer_base": f"{COMPAT} functional/optimizers",
    "compat/optimizers": f"{COMPAT} compat/_optimizer_base",
    "compat/layers": f"{COMPAT} compat/activations compat/initializations",
    "compat": f"_config {COMPAT} _blas functional/_text_table functional/metrics checkpoint "
    "checkpoint/_files callbacks distributed training onnx compat/_checks compat/activations "
    "compat/initializations compat/objectives compat/optimizers compat/layers",
    "": "_version _versions _documented_paths random tree functional compat compat/activations "
    "compat/initializations compat/layers compat/objectives compat/optimizers compat/utils",
}


def key_of(module):
    """Return the key of a module in the table: its file, otherwise its folder."""
    path = FILES[module].relative_to(ROOT)
    file = path.with_suffix("").as_posix()
    return file if file in TABLE else path.parent.as_posix().removeprefix(".")


def imports(module):
    """Yield each imported module, and whether the import is at the top level."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in names]
        else:
            continue
        for name in names:
            yield name, node in tree.body


def within(module):
    """Return all modules of npdl that a module imports."""
    return {name for name, _ in imports(module) if name.split(".")[0] == "npdl"}


def test_the_table_has_no_circle():
    above = set()
    for folder, allowed in TABLE.items():
        assert set(allowed.split()) <= above, folder
        above.add(folder)


def test_a_file_imports_only_what_the_table_allows():
    for module in FILES:
        key = key_of(module)
        found = {key_of(name) for name in within(module)} - {key}
        assert found <= set(TABLE[key].split()), module


def test_kernels_raise_no_errors():
    for module, path in FILES.items():
        if module.startswith("npdl.functional._kernels"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.Raise) for node in ast.walk(tree)), module


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter({module: within(module) for module in FILES}).prepare()


PUBLIC = (
    "callbacks checkpoint compat data distributed functional gradcheck models onnx plot random "
)
PUBLIC += "run sklearn training tree"
FACES = "combinators derivatives layers losses metrics optimizers weights activations attention "
FACES += "recurrent"
DOCUMENTED = "activations initializations layers model objectives optimizers utils data random base"
DOCUMENTED += " convolution core embedding normalization pooling recurrent shape"


def test_a_private_module_or_its_folder_has_an_underscore():
    for module in FILES:
        _, *parts = module.split(".")
        if any(part.startswith("_") for part in parts):
            continue
        known = DOCUMENTED if parts[:1] == ["compat"] else FACES
        assert set(parts[:1]) <= set(PUBLIC.split()), module
        assert set(parts[1:]) <= set(known.split()), module


def test_no_file_has_the_name_of_its_function():
    for module, path in FILES.items():
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        names = {name for name in names if not name.startswith("_")}
        assert module.rpartition(".")[2] not in names, module


def test_optional_libraries_are_imported_where_they_are_used():
    for module in FILES:
        top = {name.split(".")[0] for name, at_top in imports(module) if at_top}
        assert not top & OPTIONAL, module
        assert top <= set(sys.stdlib_module_names) | {"npdl", "numpy", "attrs"}, module


def test_package_files_only_reexport():
    reexports = ast.Expr | ast.Import | ast.ImportFrom | ast.Assign | ast.AugAssign
    for module, path in FILES.items():
        if path.name != "__init__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if module in ("npdl", "npdl.checkpoint") and isinstance(node, ast.If | ast.FunctionDef):
                continue  # npdl.compat, from_torch and from_keras are imported on first use
            assert isinstance(node, reexports)
            if isinstance(node, ast.Assign | ast.AugAssign):
                target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
                assert target.id in ("__all__", "__getattr__")


def test_importing_npdl_loads_only_required_modules():
    program = "import sys, npdl.functional; print(*sys.modules)"
    loaded = subprocess.check_output(
        [sys.executable, "-c", program], text=True, encoding="utf-8"
    ).split()
    assert not {name.split(".")[0] for name in loaded} & OPTIONAL
    assert "numpy.random" not in loaded
    assert not {"npdl.checkpoint.weights", "npdl.compat"} & set(loaded)
