"""Set up and run, on a machine that has only Python and pip. Standard library only.

    python3 dev.py report [OPTIONS]    finitewidth report [OPTIONS]
    python3 dev.py test [OPTIONS]      pytest [OPTIONS], tests and every example of README and docstrings

The first call makes `.venv` beside this file and installs into it; later ones only if pyproject.toml changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def main(arguments):
    jobs = {
        "report": ("", [str(BIN / "finitewidth"), "report"], None),
        "test": ("test", [str(PYTHON), "-m", "pytest", "-n", "auto"], ROOT),
    }
    if sys.version_info < (3, 11):
        sys.exit(f"finitewidth needs Python 3.11 or later, but {sys.executable} is {sys.version.split()[0]}")
    if not arguments or arguments[0] not in jobs:
        sys.exit(__doc__)
    extra, command, folder = jobs[arguments[0]]
    make_environment()
    install(extra)
    return subprocess.call(command + arguments[1:], cwd=folder)


def make_environment():
    if PYTHON.exists():
        return
    print(f"Making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    # Debian and others ship venv without ensurepip; this Python's own pip then installs into the environment.
    without_pip = [] if find_spec("ensurepip") else ["--without-pip"]
    if find_spec("venv") is None or subprocess.call([sys.executable, "-m", "venv", "--clear", *without_pip, str(VENV)]):
        shutil.rmtree(VENV, ignore_errors=True)  # half an environment would be taken for a whole one
        sys.exit(
            "This Python cannot make virtual environments (module venv).\n"
            "On Debian and Ubuntu: apt install python3-venv; then try again."
        )


def install(extra):
    stamp = VENV / f"installed-{extra or 'base'}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Installing finitewidth and what it needs (once; a minute or two)", flush=True)
    own_pip = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode == 0
    pip = [str(PYTHON), "-m", "pip"] if own_pip else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    if subprocess.call([*pip, "install", "--quiet", "--disable-pip-version-check", "--editable", target]):
        sys.exit(
            "pip could not install finitewidth; its message is above.\n"
            "It needs pip 22.3 or later and a way to the package index."
        )
    stamp.write_text(wanted)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
