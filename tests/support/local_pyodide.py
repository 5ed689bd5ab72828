"""A local copy of Pyodide with NumPy, Matplotlib and scikit-learn, from the package index.

The releases of Pyodide on npm have no packages. The wheel of Open WebUI has a complete copy, with
the packages. It is used because it is maintained, has a Pyodide with the newest Python, and
contains Matplotlib and scikit-learn. Its version here has the Pyodide of `docs/conf.py`.
"""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

__all__ = ["copy_pyodide", "version"]

CARRIER = "open-webui==0.12.4"


def copy_pyodide(folder):
    """Write the files of Pyodide, and the attrs of the package index, to a folder."""
    options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--quiet"]
    options += ["--disable-pip-version-check", "--dest", str(folder)]
    download = [sys.executable, "-m", "pip", "download", *options]
    subprocess.run([*download, CARRIER], check=True, timeout=600)
    (carrier,) = folder.glob("open_webui-*.whl")
    with zipfile.ZipFile(carrier) as archive:
        for member in archive.infolist():
            path = Path(member.filename)
            if path.parent.name == "pyodide":
                (folder / path.name).write_bytes(archive.read(member))
    carrier.unlink()

    lock = json.loads((folder / "pyodide-lock.json").read_text(encoding="utf-8"))
    attrs = lock["packages"]["attrs"]
    subprocess.run([*download, f"attrs=={attrs['version']}"], check=True, timeout=600)
    # Pyodide builds its own wheel, with other bytes.
    attrs["sha256"] = hashlib.sha256((folder / attrs["file_name"]).read_bytes()).hexdigest()
    (folder / "pyodide-lock.json").write_text(json.dumps(lock), encoding="utf-8")


def version(folder):
    """Return the version of Pyodide in a folder."""
    return json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
