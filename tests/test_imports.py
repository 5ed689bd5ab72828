"""Who may import whom: the ground floor, the protocol, the themes, and what is built on them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import npdl

ROOT = Path(npdl.__file__).parent
FLOOR = {"_calls", "_habits", "_warn", "record", "random", "tree", "allowance", "limits"}
FLOOR |= {"containers", "safetensors_format"}
PROTOCOL = FLOOR | {"functional._checks", "functional.layer", "functional.modes"}
# Files of helpers that the themes of a kind share.
SHARED = {"activations", "channels", "correlation", "dot_product", "elementwise", "gates"}
SHARED |= {"initializers", "layout", "loss_terms", "masked_steps", "metric", "place_products"}
SHARED |= {"recurrent"}
SHARED |= {"row_products", "sliding", "sums", "tables", "targets", "windows", "winograd"}
OPTIMIZERS = {"adam", "adaptive", "averaging", "chains", "optimizers"}
OPTIMIZERS |= {"rules", "schedules", "transforms"}
COMBINATORS = {"bidirectional", "combinators", "graph", "parallel", "stack"}
# Layers that are made of other layers.
COMPOSED = {"attention", "transformer", "from_function", "summary"}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")
OPTIONAL = {"autograd", "jax", "matplotlib", "mpi4py", "safetensors", "sklearn", "tensorboard"}
OPTIONAL |= {"torch", "tqdm"}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    """Yield each imported module, and whether the import stands at the top level."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = node.module in ("npdl", "npdl.functional")
            names = [f"{node.module}.{a.name}" if inside else node.module for a in node.names]
        else:
            continue
        for name in names:
            yield name, node in module.body


def within(path):
    """Return what a file imports of npdl, without the package's name."""
    return {name.removeprefix("npdl.") for name, _ in imports(path) if name.startswith("npdl.")}


def allowed(name):
    if name in FLOOR:
        return FLOOR
    if name in ("functional._checks", "functional.layer", "functional.modes"):
        return FLOOR | {"functional._checks", "functional.modes"}
    folder, _, theme = name.rpartition(".")
    if folder == "plot":
        names = [name_of(other) for other in FILES]
        return {"tree", *(n for n in names if n.startswith(("functional.", "plot.")))}
    if folder != "functional":
        return None
    if theme in OPTIMIZERS:
        return PROTOCOL | {f"functional.{other}" for other in OPTIMIZERS}
    if theme in COMBINATORS:
        return PROTOCOL | {f"functional.{other}" for other in COMBINATORS | SHARED}
    if theme in COMPOSED:
        return None
    return PROTOCOL | {f"functional.{other}" for other in SHARED}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_its_floor_allows(path):
    rule = allowed(name_of(path))
    found = within(path)
    for top in ("compat", "plot"):
        if not name_of(path).startswith(top):
            assert not any(name.startswith(top) for name in found)
    if rule is not None:
        assert found <= rule, f"{name_of(path)} imports {sorted(found - rule)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_optional_libraries_are_imported_where_they_are_used(path):
    top = {name.split(".")[0] for name, at_top in imports(path) if at_top}
    assert not top & OPTIONAL
    assert top <= set(sys.stdlib_module_names) | {"npdl", "numpy", "attrs"}


def test_the_package_files_only_reexport():
    for path in ROOT.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign)
            if isinstance(node, ast.Assign):
                assert node.targets[0].id in ("__all__", "__version__")


def test_importing_npdl_loads_no_more_than_it_needs():
    program = "import sys, npdl.functional; print(*sys.modules)"
    loaded = subprocess.check_output(
        [sys.executable, "-c", program], text=True, encoding="utf-8"
    ).split()
    assert not {name.split(".")[0] for name in loaded} & OPTIONAL
    assert "numpy.random" not in loaded
    assert "npdl.foreign" not in loaded
