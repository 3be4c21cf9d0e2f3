"""pyproject.toml, environment.yml, requirements.lock and the Makefile describe one and the same
environment.
"""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LIGHT = {"torch", "numpy", "safetensors"}  # what the package itself needs
BROUGHT = {
    "jax",
    "pandas",
    "jupyterlab",
    "papermill",
    "nbval",
    "pytest",
    "sphinx",
    "playwright",
}  # by conda and make env
UNLOCKED_EXTRAS = {"peers", "gpu"}
UNLOCKED = r"torch|triton|nvidia-.*|optax|pytorch-optimizer|schedulefree"  # builds by machine, and peers for benchmarks
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("linux", "darwin", "win32")
PIN = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>.+?))?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})*)"
)


# Versions with which `python -m replicate` was seen not to start, to misread a list, or to break at
# --help.
BROKEN_VERSIONS = {"typer": ("0.12.0", "0.12.3", "0.12.5", "0.13.1", "0.15.4"), "click": ("8.1.8",)}


class Texts(NamedTuple):
    """The files that must agree, as text, so that a test can break one."""

    pyproject: str
    environment: str
    lock: str
    override: str
    makefile: str


def read() -> Texts:
    names = (
        "pyproject.toml",
        "environment.yml",
        "requirements.lock",
        "lock-override.txt",
        "Makefile",
    )
    return Texts(*((ROOT / name).read_text() for name in names))


def project(texts: Texts) -> dict:
    return tomllib.loads(texts.pyproject)["project"]


def extras(texts: Texts) -> dict[str, list[Requirement]]:
    table = project(texts)["optional-dependencies"]
    return {name: [Requirement(line) for line in lines] for name, lines in table.items()}


def light_requirements(texts: Texts) -> list[Requirement]:
    """What comes without any extra."""
    return [Requirement(line) for line in project(texts)["dependencies"]]


def direct_requirements(texts: Texts) -> list[Requirement]:
    """The dependencies and those of the extras that are locked."""
    locked = [
        each
        for name, lines in extras(texts).items()
        if name not in UNLOCKED_EXTRAS
        for each in lines
    ]
    return light_requirements(texts) + locked


def extras_of_conda(texts: Texts) -> set[str]:
    """The extras that environment.yml has pip install; none if it does not install this project
    alone.
    """
    entries = yaml.safe_load(texts.environment)["dependencies"]
    lines = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    match = re.fullmatch(r"-e \.\[([\w,]+)\]", lines[0]) if len(lines) == 1 else None
    return set(match[1].split(",")) if match else set()


def extras_of_make(texts: Texts, variable: str = "EXTRAS") -> set[str]:
    """The extras that a variable of the Makefile names."""
    (line,) = re.findall(rf"^{variable} := (.*)$", texts.makefile, re.MULTILINE) or [""]
    named = set(line.split())
    return named - {"$(EXTRAS)"} | extras_of_make(texts) if "$(EXTRAS)" in named else named


def lock_lines(lock: str) -> list[str]:
    """The lock's logical lines, without comments."""
    lines = lock.replace("\\\n", " ").splitlines()
    return [
        re.sub(r"\s+", " ", line).strip()
        for line in lines
        if line.strip() and not line.startswith("#")
    ]


def pins(lock: str) -> list[re.Match]:
    return [match for match in map(PIN.fullmatch, lock_lines(lock)) if match]


def conda_packages(environment: str) -> dict[str, str]:
    """Name to version range of what conda itself installs."""
    lines = [
        entry for entry in yaml.safe_load(environment)["dependencies"] if isinstance(entry, str)
    ]
    return {name: line[len(name) :] for line in lines for name in re.findall(r"^[\w.-]+", line)}


# A check takes the texts and returns its complaints.


def conda_brings_only_python_and_pip(texts: Texts) -> list[str]:
    return [
        f"conda installs {name}"
        for name in set(conda_packages(texts.environment)) ^ {"python", "pip"}
    ]


def python_is_3_11_or_newer_in_both(texts: Texts) -> list[str]:
    found = {
        "pyproject.toml": project(texts)["requires-python"],
        "environment.yml": conda_packages(texts.environment).get("python", ""),
    }
    return [f"{file} asks for python {spec!r}" for file, spec in found.items() if spec != ">=3.11"]


def the_package_itself_is_light(texts: Texts) -> list[str]:
    return [
        f"{name} is in or out"
        for name in {found.name for found in light_requirements(texts)} ^ LIGHT
    ]


def conda_and_make_env_name_the_same_extras(texts: Texts) -> list[str]:
    conda, make = extras_of_conda(texts), extras_of_make(texts)
    uses = ["$(EXTRAS:%=--extra %)", "--constraint requirements.lock"]
    return (
        [f"only one of environment.yml and make env names {name!r}" for name in conda ^ make]
        + [f"there is no extra {name!r}" for name in (conda | make) - extras(texts).keys()]
        + [f"make env does not say {words}" for words in uses if words not in texts.makefile]
    )


def both_bring_what_the_two_commands_need(texts: Texts) -> list[str]:
    complaints = []
    for file, names in (
        ("environment.yml", extras_of_conda(texts)),
        ("make env", extras_of_make(texts)),
    ):
        brought = {each.name for name in names for each in extras(texts).get(name, [])}
        complaints += [f"{file} does not bring {package}" for package in BROUGHT - brought]
    return complaints


def make_lock_names_every_extra_but_peers_and_gpu(texts: Texts) -> list[str]:
    wanted, named = extras(texts).keys() - UNLOCKED_EXTRAS, extras_of_make(texts, "LOCKED")
    uses = [] if "$(LOCKED:%=--extra %)" in texts.makefile else ["make lock does not use LOCKED"]
    return uses + [f"make lock is wrong about the extra {name!r}" for name in wanted ^ named]


def every_dependency_is_pinned_once_within_its_range(texts: Texts) -> list[str]:
    return [
        complaint
        for requirement in direct_requirements(texts)
        if requirement.name != "torch"
        for complaint in wrongly_pinned(requirement, pins(texts.lock))
    ]


def wrongly_pinned(requirement: Requirement, locked: list[re.Match]) -> list[str]:
    """Complaints about one requirement: pins outside its range, and places where not just one pin
    holds.
    """
    name = canonicalize_name(requirement.name)
    own = [pin for pin in locked if canonicalize_name(pin["name"]) == name]
    outside = [
        pin["version"] for pin in own if Version(pin["version"]) not in requirement.specifier
    ]
    places = [(python, platform) for python in PYTHONS for platform in PLATFORMS]
    holding = {place: sum(holds(pin, *place) for pin in own) for place in places}
    return [f"{version} is outside {requirement}" for version in outside] + [
        f"{name} is pinned {times} times for {place}"
        for place, times in holding.items()
        if times != 1
    ]


def holds(pin: re.Match, python: str, platform: str) -> bool:
    """Whether a pin's marker is true on this Python and platform."""
    place = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
    }
    return pin["marker"] is None or Marker(pin["marker"]).evaluate(place)


def torch_and_peers_are_not_in_the_lock(texts: Texts) -> list[str]:
    names = [canonicalize_name(pin["name"]) for pin in pins(texts.lock)]
    complaints = [f"the lock pins {name}" for name in names if re.fullmatch(UNLOCKED, name)]
    if texts.override.strip() != "torch ; python_version < '0'":
        complaints.append("lock-override.txt does not drop torch and only torch")
    return complaints


def every_pin_has_a_hash(texts: Texts) -> list[str]:
    return [f"{pin['name']} has no hash" for pin in pins(texts.lock) if not pin["hashes"]]


def the_lock_has_nothing_but_pins(texts: Texts) -> list[str]:
    lines = [line for line in lock_lines(texts.lock) if not PIN.fullmatch(line)]
    return [f"not a pin: {line[:80]}" for line in lines] + (
        [] if pins(texts.lock) else ["the lock is empty"]
    )


def the_lock_names_no_host(texts: Texts) -> list[str]:
    return re.findall(r"\S*(?:://|--(?:extra-)?index-url|--find-links|file:|@ )\S*", texts.lock)


def torch_has_both_bounds(texts: Texts) -> list[str]:
    (torch,) = (found for found in direct_requirements(texts) if found.name == "torch")
    return [] if torch.specifier == SpecifierSet(">=2.6,<2.14") else [f"torch is {torch}"]


def gpu_is_jax_for_cuda_13(texts: Texts) -> list[str]:
    found = project(texts)["optional-dependencies"].get("gpu")
    return [] if found == ["jax[cuda13]"] else [f"gpu is {found}"]


def versions_that_do_not_work_are_out_of_range(texts: Texts) -> list[str]:
    ranges = {found.name: found.specifier for found in direct_requirements(texts)}
    return [
        f"{name} {version} is allowed and does not work"
        for name, versions in BROKEN_VERSIONS.items()
        for version in versions
        if version in ranges.get(name, SpecifierSet())
    ]


CHECKS = (
    conda_brings_only_python_and_pip,
    python_is_3_11_or_newer_in_both,
    the_package_itself_is_light,
    conda_and_make_env_name_the_same_extras,
    both_bring_what_the_two_commands_need,
    make_lock_names_every_extra_but_peers_and_gpu,
    every_dependency_is_pinned_once_within_its_range,
    torch_and_peers_are_not_in_the_lock,
    every_pin_has_a_hash,
    the_lock_has_nothing_but_pins,
    the_lock_names_no_host,
    torch_has_both_bounds,
    gpu_is_jax_for_cuda_13,
    versions_that_do_not_work_are_out_of_range,
)

HASH = f"--hash=sha256:{'0' * 64}"
BROKEN = (  # check, file, pattern, what replaces its first occurrence
    (conda_brings_only_python_and_pip, "environment", r"  - pip\n", "  - pip\n  - numpy\n"),
    (conda_brings_only_python_and_pip, "environment", r"  - pip\n", ""),
    (python_is_3_11_or_newer_in_both, "environment", r"python>=3\.11", "python>=3.12"),
    (python_is_3_11_or_newer_in_both, "environment", r"python>=3\.11", "python"),
    (python_is_3_11_or_newer_in_both, "pyproject", r'">=3\.11"', '">=3.10"'),
    (the_package_itself_is_light, "pyproject", r'\n  "numpy>=2\.0",', ""),
    (
        the_package_itself_is_light,
        "pyproject",
        r'\n  "numpy>=2\.0",',
        '\n  "numpy>=2.0",\n  "pandas>=2.2",',
    ),
    (conda_and_make_env_name_the_same_extras, "environment", r",browser", ""),
    (conda_and_make_env_name_the_same_extras, "environment", r"-e \.", "replicate"),
    (conda_and_make_env_name_the_same_extras, "environment", r"\Z", "      - numpy\n"),
    (conda_and_make_env_name_the_same_extras, "pyproject", r"\nbrowser = ", "\nbrowsers = "),
    (conda_and_make_env_name_the_same_extras, "makefile", r"\nEXTRAS := sources ", "\nEXTRAS := "),
    (
        conda_and_make_env_name_the_same_extras,
        "makefile",
        r"\$\(EXTRAS:%=--extra %\)",
        "--extra sources",
    ),
    (conda_and_make_env_name_the_same_extras, "makefile", r"--constraint requirements\.lock", ""),
    (both_bring_what_the_two_commands_need, "environment", r"\[sources,", "["),
    (both_bring_what_the_two_commands_need, "environment", r",notebooks", ""),
    (
        both_bring_what_the_two_commands_need,
        "makefile",
        r"\nEXTRAS := sources notebooks",
        "\nEXTRAS := sources",
    ),
    (both_bring_what_the_two_commands_need, "pyproject", r'"papermill>=2\.6", ', ""),
    (both_bring_what_the_two_commands_need, "pyproject", r'\n  "jax>=0\.8",', ""),
    (
        make_lock_names_every_extra_but_peers_and_gpu,
        "makefile",
        r"(?m)(EXTRAS := .*) text",
        r"\1",
    ),
    (
        make_lock_names_every_extra_but_peers_and_gpu,
        "makefile",
        r"(?m)(LOCKED := .*)$",
        r"\1 peers",
    ),
    (
        make_lock_names_every_extra_but_peers_and_gpu,
        "makefile",
        r"\$\(LOCKED:%=--extra %\)",
        "--extra sources",
    ),
    (every_dependency_is_pinned_once_within_its_range, "pyproject", r'"tqdm>=4\.66"', '"tqdm>=99"'),
    (
        every_dependency_is_pinned_once_within_its_range,
        "pyproject",
        r'"tqdm>=4\.66"',
        '"tqdm>=4", "attrs2"',
    ),
    (
        every_dependency_is_pinned_once_within_its_range,
        "pyproject",
        r'"keras>=3\.10"',
        '"keras>=99"',
    ),
    (every_dependency_is_pinned_once_within_its_range, "pyproject", r'"sphinx>=8"', '"sphinx>=99"'),
    (every_dependency_is_pinned_once_within_its_range, "lock", r"\ntqdm==\S+", "\ntqdm==4.1"),
    (every_dependency_is_pinned_once_within_its_range, "lock", r"\nplaywright==", "\nplaywrong=="),
    (
        every_dependency_is_pinned_once_within_its_range,
        "lock",
        r"\nnumpy==(\S+) ; [^\\]+",
        r"\nnumpy==\1 ",
    ),
    (torch_and_peers_are_not_in_the_lock, "lock", r"\Z", f"torch==2.13.0 {HASH}\n"),
    (torch_and_peers_are_not_in_the_lock, "lock", r"\Z", f"nvidia-cublas==13.0 {HASH}\n"),
    (torch_and_peers_are_not_in_the_lock, "lock", r"\Z", f"pytorch_optimizer==3.3 {HASH}\n"),
    (torch_and_peers_are_not_in_the_lock, "override", r"torch", "numpy"),
    (every_pin_has_a_hash, "lock", r"\Z", "left-out==1.0\n"),
    (every_pin_has_a_hash, "lock", r"(\ntqdm==\S+)( \\\n    --hash=\S+)+", r"\1"),
    (the_lock_has_nothing_but_pins, "lock", r"\ntqdm==", "\ntqdm>="),
    (the_lock_has_nothing_but_pins, "lock", r"\Z", "-e .\n"),
    (the_lock_has_nothing_but_pins, "lock", r"(?s)\A.*\Z", ""),
    (the_lock_has_nothing_but_pins, "lock", r"--hash=sha256:....", "--hash=sha256:"),
    (the_lock_names_no_host, "lock", r"\A", "--index-url somewhere\n"),
    (the_lock_names_no_host, "lock", r"\A", "# from https://a.host/simple\n"),
    (the_lock_names_no_host, "lock", r"\Z", "mine @ file:///home/me/mine.whl\n"),
    (torch_has_both_bounds, "pyproject", r"torch>=2\.6,<2\.14", "torch>=2.6"),
    (torch_has_both_bounds, "pyproject", r"torch>=2\.6,<2\.14", "torch<2.14"),
    (gpu_is_jax_for_cuda_13, "pyproject", r"cuda13", "cuda12"),
    (versions_that_do_not_work_are_out_of_range, "pyproject", r"typer>=0\.16", "typer>=0.15"),
    (versions_that_do_not_work_are_out_of_range, "pyproject", r"click>=8\.2", "click>=8.1"),
    (versions_that_do_not_work_are_out_of_range, "pyproject", r'  "click>=8\.2",[^\n]*\n', ""),
    (gpu_is_jax_for_cuda_13, "pyproject", r"\ngpu = .*", ""),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_files_agree(check):
    assert check(read()) == []


@pytest.mark.parametrize(
    "check, file, pattern, replacement", BROKEN, ids=lambda part: getattr(part, "__name__", None)
)
def test_a_broken_file_is_noticed(check, file, pattern, replacement):
    texts = read()
    broken, places = re.subn(pattern, replacement, getattr(texts, file), count=1)
    assert places == 1, f"nothing was broken: {pattern} is not in {file}"
    assert check(texts._replace(**{file: broken}))


def test_each_check_has_been_seen_to_fail():
    assert {case[0] for case in BROKEN} == set(CHECKS)
