"""A data set is one file: it is found by its folder and declares what is loaded from it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_sets import assert_refused

from replicate import datasets, errors, paths
from replicate.datasets import catalogue
from replicate.datasets.images import ImageSet
from replicate.datasets.sharded import Sharded

PACKAGE = Path(datasets.__file__).parents[1]
PAGE = (paths.ROOT / "data" / "README.md").read_text()
each_set = pytest.mark.parametrize("name", datasets.NAMES)
IMAGES = [name for name in datasets.NAMES if isinstance(datasets.describe(name), ImageSet)]
each_image_set = pytest.mark.parametrize("name", IMAGES)
TEXTS = ["multi30k", "ptb"]

TOY = """
from replicate.datasets.files import File
from replicate.datasets.images import ImageSet
import numpy as np


class Toy(ImageSet):
    def decode(self, contents):
        x = np.array(list(next(contents)[1]), dtype=np.uint8).reshape(-1, 1, 1, 1)
        return (x[:2], np.array([0, 1])), (x[2:], np.array([1]))


DATASET = Toy(
    name="my-toy", origin="here", terms="none", by_hand="put it there",
    files=(File("toy.bin", 3, "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81"),),
    shape=(1, 1, 1), classes=2, train_images=2, test_images=1,
)
"""


def run(folder, script):
    """What a script prints with the package in `folder` and its data beside it."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "REPLICATE_DATA": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "replicate", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def copy_with_toy(copy):
    (copy / "replicate" / "datasets" / "my_toy.py").write_text(TOY)
    (copy / "toy.bin").write_bytes(bytes([1, 2, 3]))
    return copy


def test_to_add_a_data_set_is_to_add_its_file(copy_with_toy):
    script = (
        "from replicate import datasets\n"
        "print(*datasets.NAMES)\n"
        "print(datasets.at_hand('my-toy'), datasets.describe('my-toy').classes)\n"
        "print(datasets.load('my-toy').train_x.ravel(), datasets.verify('my-toy')[0][0])"
    )
    names, declared, loaded = run(copy_with_toy, script).splitlines()
    assert names.split() == sorted((*datasets.NAMES, "my-toy"))
    assert (declared, loaded) == ("True 2", "[1 2] toy.bin")


def test_a_module_that_fails_harms_no_other_data_set(copy_with_toy):
    (copy_with_toy / "replicate" / "datasets" / "broken.py").write_text("DATASET = 1 / 0\n")
    script = "from replicate import datasets; print(datasets.load('my-toy').test_x.item())"
    assert run(copy_with_toy, script) == "3\n"


@each_set
def test_a_description_imports_the_module_of_its_set_and_no_large_package(name):
    others = [catalogue.module_of(other) for other in datasets.NAMES if other != name]
    # The coarse labels are declared by a change of the fine ones.
    others = [other for other in others if not catalogue.module_of(name).startswith(other)]
    script = (
        "import sys\n"
        "large = dict.fromkeys(('PIL', 'pooch', 'requests', 'sklearn', 'torch'))\n"
        "sys.modules.update(large)\n"
        "from replicate import datasets\n"
        f"dataset = datasets.describe({name!r})\n"
        "print(dataset.name, dataset.terms)\n"
        f"print([other for other in {others!r} if other in sys.modules])"
    )
    dataset = datasets.describe(name)
    described, imported = run(PACKAGE.parent, script).splitlines()
    assert described == f"{name} {dataset.terms}" and imported == "[]"


@pytest.mark.parametrize(
    "call",
    [
        datasets.load,
        datasets.at_hand,
        datasets.fetch,
        datasets.verify,
        datasets.checksum,
        datasets.describe,
        datasets.module_of,
        lambda name: datasets.shard(name, Path("tree")),
    ],
)
@pytest.mark.parametrize("name", ["cifar-10", "cifar", "batches", "../cifar10", ""])
def test_unknown_name_is_answered_with_all_right_ones(call, name):
    words = (f"unknown data set {name!r}", f"known: {', '.join(datasets.NAMES)}")
    line = assert_refused(lambda: call(name), errors.BadParameter, 64, *words)
    assert name != "cifar-10" or "did you mean 'cifar10'?" in line


def test_a_misspelt_name_is_refused_without_what_loads_images():
    script = (
        "import sys\n"
        "sys.modules.update(PIL=None, pooch=None, requests=None, sklearn=None, torch=None)\n"
        "from replicate import datasets\n"
        "try: datasets.load('cifar1O')\n"
        "except ValueError as error: print(error)"
    )
    names = ", ".join(
        ("cifar10", "cifar100", "cifar100-coarse", "digits", "imagenet", "imagenet-64")
        + ("imagewoof-64", "multi30k", "ptb", "tiny-imagenet-10")
    )
    want = f"unknown data set 'cifar1O'; did you mean 'cifar10'? known: {names}\n"
    assert run(PACKAGE.parent, script) == want


def test_batches_are_offered_by_the_package():
    from replicate.datasets.batches import Batches

    assert datasets.Batches is Batches
    with pytest.raises(AttributeError, match="no attribute 'Batchs'"):
        _ = datasets.Batchs


# What is declared


@each_set
def test_a_set_declares_its_module_s_name_and_pins_every_file(name):
    dataset = datasets.describe(name)
    assert dataset.name == name and catalogue.module_of(name) == f"{datasets.__name__}." + (
        name.replace("-", "_")
    )
    for file in (*dataset.files, *filter(None, [dataset.archive])):
        assert re.fullmatch("[0-9a-f]{64}", file.sha256) and isinstance(file.size, int)
        assert not Path(file.path).is_absolute() and ".." not in Path(file.path).parts
    fetched = dataset.url is not None and dataset.url.endswith(f"/{dataset.archive.path}")
    assert fetched or dataset.by_hand or not dataset.files
    assert dataset.terms and dataset.origin


def test_what_is_no_image_set_is_text():
    assert sorted({*IMAGES, *TEXTS}) == [*datasets.NAMES] and not {*IMAGES} & {*TEXTS}


@each_image_set
def test_what_is_declared_is_what_is_loaded(name):
    dataset = datasets.describe(name)
    if not datasets.at_hand(name):
        pytest.skip(f"{name} not at hand (data/README.md says how to get it)")
    images = datasets.load(name)
    channels, height, width = dataset.shape
    for x, y, count in (
        (images.train_x, images.train_y, dataset.train_images),
        (images.test_x, images.test_y, dataset.test_images),
    ):
        assert x.shape == (count, height, width, channels) and y.shape == (count,)
        assert (x.dtype, y.dtype) == (np.uint8, np.int64)
        assert np.array_equal(np.unique(y), np.arange(dataset.classes))
        assert x.max() == dataset.peak and x.min() == 0
    assert (images.name, images.classes, images.peak) == (name, dataset.classes, dataset.peak)


# What data/README.md says of them


def flatten(text):
    return " ".join(text.split())


def sections():
    """{heading: text} of the second-level headings of the page."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def row_of(file):
    return f"| `{file.path}` | {file.size} | `{file.sha256}` |"


@each_set
def test_the_page_says_of_each_set_what_is_declared(name):
    dataset = datasets.describe(name)
    text = flatten(sections()[name])
    if name in IMAGES:
        channels, height, width = dataset.shape
        images = dataset.train_images + dataset.test_images
        assert f"{images} images of {height} x {width} pixels" in text
        assert f"{dataset.classes} classes" in text and f"{dataset.test_images} of them" in text
    assert flatten(dataset.origin) in text and flatten(dataset.terms) in text
    assert (dataset.url or "never fetched") in text or not dataset.files
    files = (*dataset.files, *filter(None, [dataset.archive]))
    for file in files:
        assert row_of(file) in text
    assert sections()[name].count("\n| `") == len(files)
    pixels = getattr(dataset, "pixels_sha256", None)
    assert pixels is None or f"`{pixels}`" in text
    if isinstance(dataset, Sharded):
        assert f"data shard {name} TREE" in text  # what pins it is made with it
    else:
        assert f"`{dataset.place if dataset.files else dataset.checksum()}`" in text


def test_the_page_has_no_data_set_and_no_checksum_that_is_not_declared():
    declared = set()
    for name in datasets.NAMES:
        dataset = datasets.describe(name)
        declared |= {file.sha256 for file in (*dataset.files, *filter(None, [dataset.archive]))}
        declared.add(getattr(dataset, "pixels_sha256", None))
        if not isinstance(dataset, Sharded):
            declared.add(dataset.checksum())
    written = set(re.findall("[0-9a-f]{64}", PAGE))
    assert written <= declared
    overview = re.findall(r"^\| \[`(.+)`\]\(#.+?\) \|", PAGE, flags=re.MULTILINE)
    assert sorted(overview) == [*datasets.NAMES]
    assert set(sections()) == {"A bare machine", *datasets.NAMES}
