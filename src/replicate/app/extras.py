"""Which extra of the package brings a module that is not there."""

import re
from importlib.metadata import PackageNotFoundError, requires

from replicate import paths

# Modules that are not called as the package that brings them.
INSTALL_NAMES = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "myst_nb": "myst-nb",
    "yaml": "pyyaml",
    "dask": "distributed",
}
EXTRA = re.compile(r"""^([\w.-]+)[^;]*; extra == ['"]([\w.-]+)['"]$""")


def explain(error: ModuleNotFoundError) -> str | None:
    """The line for a module that an extra brings: what to install. None for any other module."""
    module = (error.name or "").partition(".")[0]
    package = _canonical(INSTALL_NAMES.get(module, module))
    extra = read_extras().get(package)
    if extra is None:
        return None
    how = (
        f"pip install -e '.[{extra}]' or make env"
        if paths.IS_CHECKOUT
        else f"pip install 'replicate[{extra}]'"
    )
    return f"this needs {module}, which is not installed: {how}"


def read_extras() -> dict[str, str]:
    """Package -> the first extra that names it, from the metadata of this package; empty where it
    is not installed.
    """
    try:
        lines = requires("replicate") or []
    except PackageNotFoundError:
        return {}
    pairs = [match.groups() for match in map(EXTRA.match, lines) if match]
    return {_canonical(name): extra for name, extra in reversed(pairs)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
