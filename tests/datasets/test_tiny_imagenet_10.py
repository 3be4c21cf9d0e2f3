"""Ten classes of Tiny-ImageNet: the archive's JPEGs are loaded, and nothing wrong is looked at."""

import hashlib
import io
import stat
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from replicate import datasets, errors, paths
from replicate.datasets import tiny_imagenet_10
from replicate.datasets.files import File

NAME = "tiny-imagenet-10"
real = pytest.mark.skipif(
    not datasets.at_hand(NAME), reason=f"{NAME} not at hand (data/README.md says where it goes)"
)
WNIDS = [
    f"n{number:08d}" for number in range(20, 0, -2)
]  # the archive's order is not the sorted one


def jpeg(seed, size=(64, 64), mode="RGB"):
    """A smooth random picture; noise would not survive being a JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def decoded(content):
    """By hand: the pixels of one JPEG, a grey one in all three channels."""
    plain = np.asarray(Image.open(io.BytesIO(content)))
    return plain if plain.ndim == 3 else np.stack([plain] * 3, axis=2)


def archive(members):
    """A zip archive of [(name, bytes)] or [(ZipInfo, bytes)], stored as it is given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def names(part, count):
    prefix = {"train": "{}_", "val": "val_"}[part]
    return [
        f"{part}/{wnid}/{prefix.format(wnid)}{number}.JPEG"
        for wnid in WNIDS
        for number in range(8, 8 + count)
    ]


@pytest.fixture(scope="module")
def members():
    """Four images a class to train on, two to test on; one of either is grey."""
    found = {name: jpeg(seed) for seed, name in enumerate(names("train", 4) + names("val", 2))}
    found[names("train", 4)[5]], found[names("val", 2)[0]] = jpeg(97, mode="L"), jpeg(98, mode="L")
    return {**found, "classes.txt": b"n00000002\tcat\n"}


@pytest.fixture
def declare(monkeypatch, tmp_path):
    """Make the set mean this archive, put `written` in its place, take its pixels as right."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    real = tiny_imagenet_10.DATASET

    def declare(content, written=None, pixels="not given"):
        file = File(f"{NAME}.zip", len(content), hashlib.sha256(content).hexdigest())
        small = replace(real, files=(file,), pixels_sha256=pixels)
        monkeypatch.setattr(tiny_imagenet_10, "DATASET", small)
        (tmp_path / file.path).write_bytes(content if written is None else written)

    return declare


def assert_refused(call, kind, *words):
    with pytest.raises(kind) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is kind and "\n" not in line
    for word in words:
        assert word in line, line


def in_order(members, part):
    """[(number, WNID, pixels)] by number, then class, straight from the names."""
    found = []
    for name, content in members.items():
        if name.startswith(f"{part}/"):
            _, wnid, file = name.split("/")
            found.append((int(file.split("_")[1].removesuffix(".JPEG")), wnid, decoded(content)))
    return sorted(found, key=lambda one: one[:2])


def pixels_of(members):
    images = [pixels for part in ("train", "val") for _, _, pixels in in_order(members, part)]
    return hashlib.sha256(np.stack(images).tobytes()).hexdigest()


# What is right


def test_arrays_are_the_decoded_members_by_number_then_class(declare, members):
    declare(archive(members.items()), pixels=pixels_of(members))
    images = datasets.load(NAME)
    assert (images.name, images.classes, images.peak) == (NAME, 10, 255)
    for part, x, y in (
        ("train", images.train_x, images.train_y),
        ("val", images.test_x, images.test_y),
    ):
        want = in_order(members, part)
        assert (x.shape, x.dtype, y.dtype) == ((len(want), 64, 64, 3), np.uint8, np.int64)
        assert np.array_equal(x, np.stack([pixels for _, _, pixels in want]))
        assert y.tolist() == [sorted(WNIDS).index(wnid) for _, wnid, _ in want]


def test_any_ten_images_in_a_row_are_one_of_each_class(declare, members):
    declare(archive(members.items()), pixels=pixels_of(members))
    images = datasets.load(NAME)
    assert (
        images.train_y.reshape(-1, 10).tolist() == [list(range(10))] * 4
    )  # a last part is held out by who trains


def test_the_order_of_the_archive_does_not_matter(declare, members):
    declare(archive(reversed(members.items())), pixels=pixels_of(members))
    assert np.array_equal(
        datasets.load(NAME).train_x[0], decoded(members["train/n00000002/n00000002_8.JPEG"])
    )


def test_a_grey_image_has_three_equal_channels(declare, members):
    declare(archive(members.items()), pixels=pixels_of(members))
    images = datasets.load(NAME)
    grey = [(x == x[..., :1]).all(axis=(1, 2, 3)).sum() for x in (images.train_x, images.test_x)]
    assert grey == [1, 1] and images.train_x.std() > 10


def test_arrays_are_shared_and_cannot_be_written_to(declare, members):
    declare(archive(members.items()), pixels=pixels_of(members))
    images = datasets.load(NAME)
    assert datasets.load(NAME) is images
    for array in (images.train_x, images.train_y, images.test_x, images.test_y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_verify_and_checksum_stand_for_the_archive(declare, members, tmp_path):
    content = archive(members.items())
    declare(content)
    assert datasets.at_hand(NAME) and datasets.fetch(NAME) is None
    assert datasets.verify(NAME) == [(f"{NAME}.zip", hashlib.sha256(content).hexdigest())]
    before = datasets.checksum(NAME)
    declare(archive([*members.items(), ("train/n00000002/n00000002_1.JPEG", jpeg(99))]))
    assert len(before) == 64 and datasets.checksum(NAME) != before
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.zip"]


# What is wrong


def cut(content):
    return content[:-1]


def flip(content):
    return content[:900] + bytes([content[900] ^ 1]) + content[901:]


@pytest.mark.parametrize(
    "damage, words", [(cut, ("bytes, want",)), (flip, ("has checksum", "want"))]
)
@pytest.mark.parametrize("call", [datasets.load, datasets.verify])
def test_a_damaged_archive_is_refused_before_it_is_opened(
    declare, members, monkeypatch, call, damage, words
):
    content = archive(members.items())
    declare(content, damage(content))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert_refused(
        lambda: call(NAME), errors.BadData, f"{NAME}.zip has", *words, "put the right one there"
    )


def test_an_archive_of_another_size_is_not_even_read(declare, members, monkeypatch):
    content = archive(members.items())
    declare(content, content + b"more")
    monkeypatch.setattr("pathlib.Path.read_bytes", None)
    assert not datasets.at_hand(NAME)
    assert_refused(
        lambda: datasets.load(NAME),
        errors.BadData,
        f"has {len(content) + 4} bytes, want {len(content)}",
    )


@pytest.mark.parametrize("call", [datasets.load, datasets.verify, datasets.fetch])
def test_an_absent_archive_is_never_fetched_and_the_line_says_where_it_goes(
    monkeypatch, tmp_path, call
):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr("socket.socket", None)
    assert not datasets.at_hand(NAME)
    words = (
        f"not at hand in {tmp_path} (no {NAME}.zip of 11286575 bytes)",
        "never fetched: put it there",
        "REPLICATE",
    )
    assert_refused(lambda: call(NAME), errors.Missing, *words)
    assert list(tmp_path.iterdir()) == []


def info(name, mode=stat.S_IFREG | 0o644, packed=zipfile.ZIP_STORED):
    made = zipfile.ZipInfo(name)
    made.external_attr, made.compress_type = mode << 16, packed
    return made


def oversized(width, height):
    """A JPEG whose header says it is this large."""
    content = jpeg(0)
    at = content.index(b"\xff\xc0") + 5  # start of frame: marker, length, precision, height, width
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


FIRST = "train/n00000002/n00000002_8.JPEG"
MORE = "train/n00000002/n00000002_77.JPEG"
HOSTILE = {
    "upwards": ("train/../n00000002_77.JPEG", jpeg(0), "not named as an image"),
    "absolute": (f"/{MORE}", jpeg(0), "not named as an image"),
    "another part": ("test/n00000002/n00000002_77.JPEG", jpeg(0), "not named as an image"),
    "another class's": ("train/n00000002/n00000004_77.JPEG", jpeg(0), "not named as an image"),
    "another kind": ("train/n00000002/n00000002_77.pkl", b"", "not named as an image"),
    "line break": (f"{MORE}\n", jpeg(0), "not named as an image"),
    "folder": ("train/n00000002/", b"", "not named as an image"),
    "link": (info(MORE, stat.S_IFLNK | 0o777), b"/etc/passwd", "is a link"),
    "pipe": (info(MORE, stat.S_IFIFO | 0o644), b"", "is a link, device or pipe"),
    "packed": (info(MORE, packed=zipfile.ZIP_DEFLATED), bytes(2**20), "not stored"),
    "twice": (FIRST, jpeg(0), "two members of one name"),
    "eleventh class": ("val/n00000099/val_1.JPEG", jpeg(0), "has 10 classes and 11"),
    "small": (MORE, jpeg(0, (64, 32)), "64 x 32 RGB, want 64 x 64"),
    "four inks": (MORE, jpeg(0, mode="CMYK"), "64 x 64 CMYK"),
    "large": (MORE, oversized(640, 640), "640 x 640 RGB"),
    "bomb": (MORE, oversized(65000, 65000), "not a whole JPEG"),
    "cut short": (MORE, jpeg(0)[:-200], "not a whole JPEG"),
    "another format": (MORE, png(), "not a whole JPEG"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_even_with_the_right_checksum(
    declare, members, tmp_path, what
):
    name, content, words = HOSTILE[what]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of a name that it has twice
        declare(archive([*members.items(), (name, content)]))
    assert_refused(lambda: datasets.load(NAME), errors.BadData, f"{NAME}.zip", words, "refused")
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.zip"]


def test_a_size_that_is_not_right_is_refused_before_a_pixel_is_decoded(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert_refused(
        lambda: tiny_imagenet_10.DATASET.decode_jpeg("x", oversized(640, 640)),
        errors.BadData,
        "640 x 640",
    )


@pytest.mark.parametrize("content", [b"no archive", b"", archive([])[:-1]])
def test_something_else_than_an_archive_is_refused(declare, content):
    declare(content)
    assert_refused(lambda: datasets.load(NAME), errors.BadData, "cut short or not a zip archive")


def test_a_class_without_a_test_image_is_noticed(declare, members):
    lacking = {
        name: content for name, content in members.items() if not name.startswith("val/n00000002")
    }
    declare(archive(lacking.items()))
    assert_refused(
        lambda: datasets.load(NAME), errors.BadData, "has 10 classes and 9, want the same 10"
    )


def test_a_decoder_that_gives_other_pixels_is_noticed(declare, members):
    declare(archive(members.items()), pixels="0" * 64)
    assert_refused(
        lambda: datasets.load(NAME),
        errors.BadData,
        "want 000000000000...",
        "version of Pillow in requirements",
    )


# The real one, and what is said of it


@real
def test_the_real_archive_has_its_counts_and_its_grey_images():
    images = datasets.load(NAME)
    assert (images.train_x.shape, images.test_x.shape) == ((5000, 64, 64, 3), (500, 64, 64, 3))
    assert (
        np.bincount(images.train_y).tolist() == [500] * 10
        and np.bincount(images.test_y).tolist() == [50] * 10
    )
    assert np.bincount(images.train_y[4000:]).tolist() == [100] * 10
    with zipfile.ZipFile(paths.data_folder() / f"{NAME}.zip") as plain:
        for path, image, label in (
            ("train/n02085620/n02085620_0.JPEG", images.train_x[0], images.train_y[0]),
            ("train/n02129165/n02129165_499.JPEG", images.train_x[-1], images.train_y[-1]),
        ):
            assert np.array_equal(image, decoded(plain.read(path)))
            assert (
                plain.read("classes.txt")
                .decode()
                .splitlines()[label]
                .startswith(path.split("/")[1])
            )
        modes = [
            Image.open(plain.open(path)).mode for path in plain.namelist() if path.endswith(".JPEG")
        ]
    assert (len(modes), modes.count("L"), modes.count("RGB")) == (5500, 68, 5432)
