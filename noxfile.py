"""Test npdl on other Pythons, NumPys, kernels and systems; CONTRIBUTING.md lists the results.

    nox --list                              # all sessions
    nox -s tests                            # all Pythons and NumPys; a missing Python is skipped
    nox -s "kernels(Nehalem)" -- tests/functional

Arguments after ``--`` go to pytest.
"""

import os
import platform
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"  # which needs no python3-venv of the system
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lowest", "kernels", "summation", "random_order", "hostile"]
nox.options.sessions += ["package", "docs"]

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
NUMPYS = {"2.0.2": "numpy==2.0.2", "2.2": "numpy==2.2.*", "2.4": "numpy==2.4.*", "newest": "numpy"}
EXTRAS = ["autograd", "bridges", "chatbot", "examples", "mpi", "onnx", "scipy", "sklearn"]
EXTRAS += ["tensorboard", "test"]

# Dependencies of the lowest versions, of the same age: newer ones warn.
CONTEMPORARIES = ["pyparsing<3.2"]

# The kernels of OpenBLAS, with BLAS threads, and the flag that a processor needs to run them.
# With an empty flag, NumPy uses its baseline kernels too.
KERNELS = {
    "Prescott": (1, ""),
    "Nehalem": (1, ""),
    "Sandybridge": (2, "avx"),
    "Haswell": (4, "avx2"),
    "Zen": (1, "avx2"),
    "SkylakeX": (2, "avx512f"),
    "SapphireRapids": (4, "avx512_bf16"),
}

# The folder's name and the locale: Python takes UTF-8 in the locale C, and without this mode ASCII.
HOSTILE = {
    "path": ("npdl für alle ", {"LC_ALL": "C"}),
    "ascii": ("npdl-", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
}

# Otherwise each test process would compile all files.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Interpreters of pyenv come before its shims, which answer for one version alone.
for folder in sorted(Path.home().glob(".pyenv/versions/3.*/bin")):
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def install(session, *requirements):
    """Install npdl from this tree, with all extras that the fast tests use, and more."""
    session.install("-e", f".[{','.join(EXTRAS)}]", *requirements)


def fast_tests(session, *arguments, **environment):
    """Run the fast tests in two processes, with one BLAS thread unless the environment has more."""
    environment = {"OPENBLAS_NUM_THREADS": "1"} | environment
    fast = ["-m", "not slow", "-n", "2", *arguments, *session.posargs]
    session.run("python", "-m", "pytest", *fast, env=environment)


def printed(session, code):
    """Return the output of a program in the environment of a session."""
    return session.run("python", "-c", code, silent=True).strip()


def baseline(session):
    """Return the variable that restricts NumPy to its baseline kernels."""
    code = "from numpy._core import _multiarray_umath as c; "
    code += "print(*[f for f in c.__cpu_dispatch__ if c.__cpu_features__[f]])"
    return {"NPY_DISABLE_CPU_FEATURES": printed(session, code)}


@nox.session(python=PYTHONS)
@nox.parametrize("numpy", list(NUMPYS.values()), ids=list(NUMPYS))
def tests(session, numpy):
    """Run the fast tests on a Python and a NumPy."""
    if (session.python, numpy) == ("3.11", "numpy"):
        session.skip("2.4 is the newest NumPy for Python 3.11")
    if (session.python, numpy) == ("3.13", "numpy==2.0.2"):
        session.skip("NumPy 2.0 has no wheel for Python 3.13")
    install(session, numpy)
    fast_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session):
    """Run the fast tests with the lowest version of every dependency."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["plot"], *extras["progress"]}
    wanted.update(*(extras[extra] for extra in EXTRAS))
    pins = [w.replace(">=", "==") for w in wanted if not w.startswith(project["name"])]
    session.install(*sorted(pins), *CONTEMPORARIES)
    session.install("--no-deps", "-e", ".")
    fast_tests(session)


@nox.session(python=PYTHONS[0])
@nox.parametrize("core", list(KERNELS), ids=list(KERNELS))
def kernels(session, core):
    """Run the fast tests with the kernels of another processor."""
    threads, flag = KERNELS[core]
    known = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not known.exists():
        session.skip("the kernels are those of x86-64, on Linux")
    if flag not in known.read_text(encoding="utf-8"):
        session.skip(f"this processor has no {flag}")
    install(session, "numpy==2.4.*")
    environment = {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": str(threads)}
    fast_tests(session, **environment, **({} if flag else baseline(session)))


@nox.session(python=PYTHONS[0])
def summation(session):
    """Run the fast tests with a BLAS that sums in another order for each shape; needs gcc.

    The other kernels are the oldest, so that a CI of one session covers both.
    """
    install(session)
    code = "import numpy, pathlib; print(*(pathlib.Path(numpy.__file__).parents[1] / 'numpy.libs')"
    blas = printed(session, code + ".glob('libscipy_openblas64_*'))")
    if not (blas and shutil.which("gcc")):
        session.skip("needs gcc, and a NumPy wheel for Linux with its OpenBLAS")
    library = Path(session.create_tmp(), "other_blas.so").resolve()
    source = "tests/support/other_blas.c"
    session.run("gcc", "-O2", "-shared", "-fPIC", "-o", library, source, external=True)
    environment = {"OPENBLAS_CORETYPE": "Nehalem", **baseline(session)}
    fast_tests(session, BLAS=blas, LD_PRELOAD=str(library), **environment)


@nox.session(python=PYTHONS[0])
def random_order(session):
    """Run the fast tests in a random order; a seed that is printed repeats it."""
    install(session, "pytest-randomly>=3.15")
    fast_tests(session)


# Another user may not reach an interpreter in the folder of root.
@nox.session(python="/usr/bin/python3" if sys.platform == "linux" and os.getuid() == 0 else None)
@nox.parametrize("system", list(HOSTILE), ids=list(HOSTILE))
def hostile(session, system):
    """Run the fast tests where little is allowed.

    The tree cannot be written, its path has a space and a letter outside ASCII or the locale is
    ASCII, new files are private, the time zone is 5:45 hours off, and the user is not root.
    """
    install(session)
    user = []
    if os.getuid() == 0:
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    prefix, locale = HOSTILE[system]
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        Path(folder).chmod(0o755)
        tree, home = Path(folder, "tree"), Path(folder, "home")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
        home.mkdir()
        home.chmod(0o777)
        session.run("chmod", "-R", "a+rX,a-w", tree, external=True)
        environment = locale | {"TZ": "Asia/Kathmandu", "OPENBLAS_NUM_THREADS": "1"}
        environment |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(tree)}
        command = ["umask 077 && cd", shlex.quote(str(tree)), "&&", *user, "python", "-m", "pytest"]
        command += ["-p", "no:cacheprovider", "-m", "'not slow'", "-n", "2", *session.posargs]
        session.run("sh", "-c", " ".join(command), external=True, env=environment)
        session.run("chmod", "-R", "u+w", tree, external=True)


@nox.session(python=PYTHONS)
def package(session):
    """Build the wheel and the sdist, check them, and run the README with each in a clean place."""
    tools = ["build>=1.2", "twine>=6", "check-wheel-contents>=0.6", "validate-pyproject>=0.20"]
    session.install(*tools)
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", folder, "--quiet")
    wheel, sdist = (max(folder.glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    session.run("twine", "check", "--strict", wheel, sdist)
    session.run("check-wheel-contents", wheel)
    session.run("validate-pyproject", "pyproject.toml")
    for number, built in enumerate((wheel, sdist)):
        clean = folder / f"clean{number}"
        session.run("python", "-m", "venv", "--clear", clean)
        python = clean / ("Scripts" if os.name == "nt" else "bin") / "python"
        session.run(python, "-m", "pip", "install", "--quiet", built, external=True)
        with session.chdir(folder):
            blocks, page = ROOT / "docs" / "_ext" / "blocks.py", ROOT / "README.md"
            session.run(python, "-W", "error", blocks, page, external=True)


@nox.session(python=PYTHONS[0])
def docs(session):
    """Build the site, whose pages run, and check its links."""
    session.run("make", "docs", f"VENV={session.virtualenv.location}", external=True)
