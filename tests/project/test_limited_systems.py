"""npdl imports, trains, resumes and draws without the parts of a system that a browser lacks."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from blocks import blocks

ROOT = Path(__file__).parents[2]
README = [block.code for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
RESUMED = [code for code in README if "resume=True" in code]
DRAWN = "import matplotlib\nmatplotlib.use('Agg')\nfrom npdl import plot\n"
DRAWN += "plot.learning_curves(history)[0].figure.savefig('curves.png')\n"

# No file locks, no library of the system, no thread, no process, no count of processors.
LIMITED = """
import os, subprocess, sys, threading
sys.modules |= dict.fromkeys(("_ctypes", "_multiprocessing", "ctypes", "fcntl", "mpi4py"))
def refuse(*_, **__):
    raise OSError("a browser lacks this")
threading.Thread.start = subprocess.Popen.__init__ = refuse
for name in ("fork", "posix_fadvise", "posix_spawn", "sched_getaffinity", "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""


def test_no_thread_lock_process_or_system_library_is_needed(tmp_path):
    drawn = [DRAWN] if find_spec("matplotlib") else []
    code = "\n".join([LIMITED, README[0], *RESUMED, *drawn, "import npdl\nnpdl.show_versions()"])
    command = [sys.executable, "-W", "error", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, timeout=300, cwd=tmp_path, env=environment)
