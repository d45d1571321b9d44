"""Compiled programs are kept for our own processes, in the user's cache folder, unless the user has chosen another."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from finitewidth.programs import keep_compiled_programs
keep_compiled_programs()
assert "jax" not in sys.modules
import jax, jax.numpy as jnp
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((3, 3)))
"""


def run(**environment: str) -> str:
    known = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | environment
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=known, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_programs_go_to_the_cache_folder_of_the_user(tmp_path: Path) -> None:
    folder = Path(run(XDG_CACHE_HOME=str(tmp_path)))
    assert folder.is_relative_to(tmp_path / "finitewidth") and any(folder.iterdir())


def test_a_folder_that_was_chosen_stays(tmp_path: Path) -> None:
    assert run(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")


def test_without_a_place_to_write_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == "None"
