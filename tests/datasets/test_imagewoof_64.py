"""Imagewoof at 64 pixels: what is loaded equals the strips, and no strip or name that is wrong."""

import hashlib
import io
import lzma
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_sets import as_file, assert_refused, list_files

from replicate import datasets, errors, paths
from replicate.datasets import imagewoof_64

NAME = "imagewoof-64"
real = pytest.mark.skipif(
    not datasets.at_hand(NAME), reason=f"{NAME} not at hand (data/README.md says where it goes)"
)
WNIDS = [f"n{number:08d}" for number in range(20, 0, -2)]  # not the sorted order


def webp(seed, images, size=64, kind="WEBP"):
    """A strip of smooth random pictures, without loss."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4 * images, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((size, 64 * images)).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def decode_plainly(content, images):
    """Picture after picture of one strip, pixel by pixel where it is cut."""
    strip = Image.open(io.BytesIO(content)).convert("RGB")
    return [np.asarray(strip.crop((0, 64 * i, 64, 64 * i + 64))) for i in range(images)]


def names(train=20, val=10):
    splits = ["train"] * train + ["val"] * val
    return [f"{split}/{WNIDS[i % 10]}/image_{i}.JPEG" for i, split in enumerate(splits)]


def pack(lines):
    return lzma.compress("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture(scope="module")
def strips():
    """Three strips of 7, 7 and 6 images to train on, one of 10 to test on."""
    return [webp(1, 7), webp(2, 7), webp(3, 6), webp(4, 10)]


@pytest.fixture(scope="module")
def plain(strips):
    """The pixels of all images in their order."""
    counts = (7, 7, 6, 10)
    images = [decode_plainly(strip, n) for strip, n in zip(strips, counts, strict=True)]
    return np.stack([image for images in images for image in images])


@pytest.fixture
def declare(monkeypatch, tmp_path, strips, plain):
    """Make the set mean these files, put them in their places and pin the right pixels."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    full = imagewoof_64.DATASET

    def declare(listed=None, train=None, val=None, pixels=None):
        contents = {
            f"{NAME}/names.txt.xz": pack(names()) if listed is None else listed,
            f"{NAME}/train.webps": b"".join(strips[:3]) if train is None else train,
            f"{NAME}/val.webps": strips[3] if val is None else val,
        }
        files = tuple(as_file(path, content) for path, content in contents.items())
        pinned = pixels or hashlib.sha256(plain.tobytes()).hexdigest()
        small = replace(full, files=files, pixels_sha256=pinned)
        monkeypatch.setattr(imagewoof_64, "DATASET", small)
        (tmp_path / NAME).mkdir(exist_ok=True)
        for path, content in contents.items():
            (tmp_path / path).write_bytes(content)

    return declare


def test_images_and_labels_are_those_of_the_strips_and_the_names(declare, plain):
    declare()
    images = datasets.load(NAME)
    assert (images.name, images.classes, images.peak) == (NAME, 10, 255)
    assert (images.train_x.dtype, images.train_y.dtype) == (np.uint8, np.int64)
    assert np.array_equal(images.train_x, plain[:20])
    assert np.array_equal(images.test_x, plain[20:])
    # The n-th name has the n-th of the WNIDs, whose sorted order is the reverse.
    assert images.train_y.tolist() == [*range(9, -1, -1)] * 2
    assert images.test_y.tolist() == [*range(9, -1, -1)]
    assert images.train_x.flags.c_contiguous and not images.train_x.flags.writeable


def test_a_decoder_that_gives_other_pixels_is_noticed(declare):
    declare(pixels="0" * 64)
    words = ("decoded from imagewoof-64/ have", "want 000000000000...", "version of Pillow in req")
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, *words)


def test_a_pillow_without_webp_is_named(declare, monkeypatch):
    declare()
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    words = ("needs a Pillow that reads WebP", "install the version of Pillow")
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, *words)


WRONG_NAMES = {
    "upwards": (["train/../image_1.JPEG"], "'train/../image_1.JPEG' is not named as an image"),
    "another split": (["test/n00000002/image_1.JPEG"], "not named as an image"),
    "another kind": (["train/n00000002/image_1.pkl"], "not named as an image"),
    "an image more": (["train/n00000002/image_99.JPEG"], "20 images for 21 names"),
    "an image less to test on": (["val/n00000002/image_99.JPEG"], "10 images for 11 names"),
    "eleventh class": (["val/n00000099/image_99.JPEG"], "names 11 classes, want 10"),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_wrong_name_is_refused_even_with_the_right_checksum(declare, case):
    lines, words = WRONG_NAMES[case]
    declare(listed=pack(names() + lines))
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, f"{NAME}/", words, "refused")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (b"no archive", "names.txt.xz is not a whole xz file"),
        (pack(names())[:-20], "names.txt.xz is cut short"),
        (lzma.compress(bytes(2**21)), "cut short or has more than 1048576 bytes"),
    ],
    ids=["another file", "cut short", "bomb"],
)
def test_a_list_of_names_that_is_none_is_refused(declare, listed, words):
    declare(listed=listed)
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, words, "refused")


def enlarge(content, width, height):
    """The lossless WebP image with another size in its header."""
    start = content.index(b"VP8L") + 9  # chunk name, length, signature; then 14 bits for each
    bits = int.from_bytes(content[start : start + 4], "little") & ~(2**28 - 1)
    header = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return content[:start] + header + content[start + 4 :]


WRONG_STRIPS = {
    "no strip": (b"no strip", "strip at byte 0 is not a WebP image"),
    "cut short": (webp(4, 10)[:-500], "strip at byte 0 is not a whole WebP image"),
    "more behind": (webp(4, 10) + b"more", "is not a WebP image"),
    "another format": (webp(4, 10, kind="PNG"), "is not a WebP image"),
    "another width": (webp(4, 10, size=32), "32 x 640, want 64 x a multiple of 64 up to 16000"),
    "another height": (enlarge(webp(4, 10), 64, 650), "64 x 650, want"),
    "too high": (enlarge(webp(4, 10), 64, 16064), "64 x 16064, want"),
    "an image less": (webp(4, 9), "val.webps has 9 images for 10 names"),
}


@pytest.mark.parametrize("case", WRONG_STRIPS)
def test_a_wrong_strip_is_refused_even_with_the_right_checksum(declare, case):
    content, words = WRONG_STRIPS[case]
    declare(val=content)
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, "val.webps", words, "refused")


def test_a_wrong_size_is_refused_before_a_pixel_is_decoded(declare, monkeypatch):
    declare(train=enlarge(webp(4, 10), 8000, 8000))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert_refused(lambda: datasets.load(NAME), errors.BadData, 65, "8000 x 8000")


@pytest.mark.parametrize("call", [datasets.load, datasets.verify, datasets.fetch])
def test_an_absent_set_is_never_fetched_and_the_line_says_where_it_goes(
    monkeypatch, tmp_path, call
):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr("socket.socket", None)
    assert not datasets.at_hand(NAME)
    where = f"{NAME} is not at hand in {tmp_path} (no {NAME}/names.txt.xz of 17904 bytes)"
    words = (where, "never fetched: put the folder imagewoof-64/", "there", "REPLICATE_DATA")
    assert_refused(lambda: call(NAME), errors.Missing, 66, *words)
    assert list_files(tmp_path) == []


# The real one


@real
def test_the_real_set_has_the_counts_that_its_authors_list_has():
    images = datasets.load(NAME)
    assert (images.train_x.shape, images.test_x.shape) == ((9025, 64, 64, 3), (3929, 64, 64, 3))
    # Counted from fast.ai's noisy_imagewoof.csv by WNID in their order; the foxhound is the small
    # class.
    train = [941, 942, 932, 580, 949, 943, 949, 928, 921, 940]
    assert np.bincount(images.train_y).tolist() == train
    val = [409, 408, 418, 224, 401, 407, 401, 422, 429, 410]
    assert np.bincount(images.test_y).tolist() == val


@real
def test_the_real_pixels_and_labels_are_those_of_a_plain_loop():
    images = datasets.load(NAME)
    folder = paths.data_folder() / NAME
    lines = lzma.open(folder / "names.txt.xz", "rt").read().split()
    wnids = sorted({line.split("/")[1] for line in lines})
    place = 0
    content = (folder / "val.webps").read_bytes()
    while content:
        length = 8 + content[4] + 256 * (content[5] + 256 * (content[6] + 256 * content[7]))
        strip = Image.open(io.BytesIO(content[:length])).convert("RGB")
        for top in range(0, strip.height, 64):
            picture = strip.crop((0, top, 64, top + 64))
            assert picture.tobytes() == images.test_x[place].tobytes()
            assert lines[9025 + place].split("/")[:2] == ["val", wnids[images.test_y[place]]]
            place += 1
        content = content[length:]
    assert place == 3929
