"""A package whose bytes are not those of the lock is not installed, and `make env` ends red: the recipe
of the Makefile and the installer are the real ones, the package and its lock are made here.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from replicate import paths

WHEEL = "lockedtoy-1.0-py3-none-any.whl"
FAKE = """#!/bin/sh
# Stands for the interpreter that makes an environment; the installer is the real one.
case "$2" in
  venv) mkdir -p .venv/bin && ln -sf "$0" .venv/bin/python && ln -sf {uv} .venv/bin/uv ;;
esac
"""
UV = """#!/bin/sh
case "$*" in
  *"-e ."*) exit 0 ;;
esac
shift 4
exec {real} pip install --python {python} --target site "$@"
"""


def write_wheel(folder: Path) -> str:
    """A package of one module; its SHA-256."""
    about = {"lockedtoy.py": b"VALUE = 1\n",
             "lockedtoy-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: lockedtoy\nVersion: 1.0\n",
             "lockedtoy-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}  # fmt: skip
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in about.items()]
    about["lockedtoy-1.0.dist-info/RECORD"] = "\n".join(
        [*lines, "lockedtoy-1.0.dist-info/RECORD,,"]
    ).encode()
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, content in about.items():
            archive.writestr(name, content)
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


def _extras() -> list[str]:
    """All that the repository has, so that `make env` finds those that it asks for."""
    return list(
        tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
    )


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture
def make_env(tmp_path):
    """`make env` with a lock whose hash of the one package is `sha256`: exit code and what it says."""
    real = Path(sys.executable).parent / "uv"
    if not real.exists():
        pytest.skip("this environment was made without uv, which make env uses")
    (tmp_path / "Makefile").write_text((paths.ROOT / "Makefile").read_text())
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["lockedtoy"]\n'
        "[project.optional-dependencies]\n" + "".join(f"{name} = []\n" for name in _extras())
    )
    scripts = {
        "python3": FAKE.format(uv=tmp_path / "uv"),
        "uv": UV.format(real=real, python=sys.executable),
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def make_env(sha256: str):
        (tmp_path / "requirements.lock").write_text(
            f"lockedtoy==1.0 \\\n    --hash=sha256:{sha256}\n"
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "UV_"))
        }
        environment |= {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "wheels"),
                        "UV_CACHE_DIR": str(tmp_path / "cache")}  # fmt: skip
        command = ["make", "env", f"PYTHON={tmp_path / 'python3'}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr

    return make_env


def test_make_env_installs_what_the_lock_says_and_nothing_else(make_env, tmp_path, tally):
    right = write_wheel(tmp_path / "wheels")
    code, said = make_env(right[:-1] + ("0" if right[-1] != "0" else "1"))
    assert code != 0 and "Hash mismatch" in said and right in said, said
    assert (
        not (tmp_path / "site" / "lockedtoy.py").exists()
        and not (tmp_path / ".venv/.done").exists()
    )
    code, said = make_env(right)
    assert code == 0 and (tmp_path / "site" / "lockedtoy.py").exists(), said
    assert (tmp_path / ".venv/.done").exists()
    tally("changed hashes of the lock that make env refuses")
