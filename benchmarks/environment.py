"""The peer's own environment: neural-tangents 0.6.5 with the versions it still imports under, made on demand.

No release of neural-tangents imports on current JAX, so it cannot share our environment. It is installed without its
dependency tf2jax, which brings 2 GB of TensorFlow for its folder `experimental` only; the worker replaces that folder
by an empty module.
"""

import shutil
import subprocess
import sys
from pathlib import Path

PYTHON = (3, 11)
PINS = ("jax==0.5.3", "jaxlib==0.5.3", "numpy==2.4.6", "frozendict")
PEER = "neural-tangents==0.6.5"
HOME = Path(__file__).parent / ".environments" / "neural-tangents"


def peer_python() -> Path:
    """The Python of the peer's environment, which is made first if it is missing or was left half made."""
    python = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = "\n".join((*PINS, PEER))
    receipt = HOME / "finished"
    if receipt.exists() and receipt.read_text() == wanted:
        return python
    print(f"making the environment of {PEER} (a minute or two)", file=sys.stderr, flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run([_base_python(), "-m", "venv", str(HOME)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *PINS], check=True, stdout=sys.stderr)
    subprocess.run([*install, "--no-deps", PEER], check=True, stdout=sys.stderr)
    receipt.write_text(wanted)
    return python


def _base_python() -> str:
    """A Python 3.11: the running one, or `python3.11` on the path."""
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    wanted = ".".join(map(str, PYTHON))
    found = shutil.which(f"python{wanted}")
    if found is None:
        running = ".".join(map(str, sys.version_info[:2]))
        raise SystemExit(
            f"{PEER} was tried on Python {wanted} only; this is Python {running}, and no `python{wanted}` is on "
            f"the path: install Python {wanted}, or run with --no-peer to time finitewidth alone"
        )
    return found
