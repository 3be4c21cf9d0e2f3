"""Imagewoof at 64 x 64 pixels: ten dog breeds of ImageNet, decoded from strips of WebP images.

A `.webps` file is a plain sequence of WebP files, each one a strip, 64 pixels wide, of up to 250
images from top to bottom. `names.txt.xz` has the original path of each image on a line of its own,
`train/WNID/NAME.JPEG` and then `val/...`, in the order of the images. The images go by their place
in their class, then by class, so any first images of a split have all classes alike until the
smallest class ends.
"""

import io
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from replicate.datasets.files import File
from replicate.datasets.images import PILLOW, ImageSet, Labelled
from replicate.errors import BadData

SPLITS = ("train", "val")
NAME = re.compile(r"(train|val)/(n[0-9]{8})/[A-Za-z0-9_]+\.JPEG")
NAMES_BYTES = 2**20  # what the list of names may unpack to; it has 464 513
STRIP_IMAGES = 250  # of one strip, at most
RIFF_HEADER = 8  # bytes before those that its length counts


@dataclass(frozen=True, kw_only=True)
class Imagewoof(ImageSet):
    """Imagewoof in strips; its validation set is the test set.

    Labels are the places of the classes' WNIDs in their order.
    """

    def decode(self, contents: Iterator[tuple[File, bytes]]) -> tuple[Labelled, Labelled]:
        """See ImageSet. Raises BadData for names or strips of another form or number."""
        names = _list_names(*next(contents))
        wnids = sorted({wnid for _, wnid in names})
        if len(wnids) != self.classes:
            label = self.files[0].path
            raise BadData(f"{label} names {len(wnids)} classes, want {self.classes}; refused")
        train, test = (
            self._decode_split(file, content, [wnids.index(w) for s, w in names if s == split])
            for split, (file, content) in zip(SPLITS, contents, strict=True)
        )
        return train, test

    def _decode_split(self, file: File, content: bytes, labels: list[int]) -> Labelled:
        strips = _split_strips(file, content)
        images = np.concatenate([self._decode_strip(*strip) for strip in strips])
        if len(images) != len(labels):
            counts = f"{len(images)} images for {len(labels)} names"
            raise BadData(f"{file.path} has {counts}; refused")
        return images, np.array(labels, dtype=np.int64)

    def _decode_strip(self, label: str, webp: bytes) -> np.ndarray:
        """(n, 64, 64, 3) uint8; the size is checked before a pixel is decoded."""
        from PIL import Image, features

        if not features.check("webp"):
            raise BadData(f"{label} needs a Pillow that reads WebP; {PILLOW}")
        channels, height, width = self.shape
        try:
            with Image.open(io.BytesIO(webp), formats=("WEBP",)) as image:
                self._check_header(label, image)
                return np.asarray(image.convert("RGB")).reshape(-1, height, width, channels)
        except (OSError, Image.DecompressionBombError) as error:
            raise BadData(f"{label} is not a whole WebP image ({error}); refused") from error

    def _check_header(self, label: str, image) -> None:
        _, height, width = self.shape
        heights = range(height, height * STRIP_IMAGES + 1, height)
        if image.width != width or image.height not in heights:
            want = f"{width} x a multiple of {height} up to {heights[-1]}"
            raise BadData(f"{label} is {image.width} x {image.height}, want {want}; refused")


def _list_names(file: File, content: bytes) -> list[tuple[str, str]]:
    """(split, WNID) of each image."""
    decompressor = lzma.LZMADecompressor()
    try:
        text = decompressor.decompress(content, NAMES_BYTES)
    except lzma.LZMAError as error:
        raise BadData(f"{file.path} is not a whole xz file ({error}); refused") from error
    if not decompressor.eof:
        raise BadData(f"{file.path} is cut short or has more than {NAMES_BYTES} bytes; refused")
    lines = text.decode("ascii", errors="replace").splitlines()
    names = [NAME.fullmatch(line) for line in lines]
    if None in names:
        line = lines[names.index(None)]
        raise BadData(f"{file.path}: {line!r} is not named as an image of this set; refused")
    return [(name[1], name[2]) for name in names]


def _split_strips(file: File, content: bytes) -> Iterator[tuple[str, bytes]]:
    """(label, bytes) of each WebP file; its length stands in its header."""
    start = 0
    while start < len(content):
        label = f"{file.path}: strip at byte {start}"
        if content[start : start + 4] != b"RIFF":
            raise BadData(f"{label} is not a WebP image; refused")
        length = int.from_bytes(content[start + 4 : start + RIFF_HEADER], "little")
        end = start + RIFF_HEADER + length
        yield label, content[start:end]
        start = end


DATASET = Imagewoof(
    name="imagewoof-64",
    origin="Imagewoof (fast.ai, version 2 of December 2019), each image reduced to 64 x 64 pixels",
    terms=(
        "ImageNet's, non-commercial research and education; the photographs belong to their owners."
    ),
    by_hand=(
        "it is never fetched: put the folder imagewoof-64/ with its three files there "
        "(data/README.md says how they are made), or set REPLICATE_DATA to a folder that has it"
    ),
    files=(
        File(
            "imagewoof-64/names.txt.xz",
            17904,
            "d2bbfd401ef5aad83d7e4f5dc030bcfb6655fb0b0f121160854915a642f16507",
        ),
        File(
            "imagewoof-64/train.webps",
            11753942,
            "6bd14e5e3b6cae11313101ef315195d3aa1e28e456168b5d9fac91fd285f09dc",
        ),
        File(
            "imagewoof-64/val.webps",
            5081434,
            "ef77582cfa270ac8b283c09090a0bd84951b5201259eedb968dc505f75f0c876",
        ),
    ),
    shape=(3, 64, 64),
    classes=10,
    train_images=9025,
    test_images=3929,
    pixels_sha256="301dbea57997b5b2cb438b5d8da83764d73e69f38368b805a80643d33d53e0a0",
)
