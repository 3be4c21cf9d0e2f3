"""CIFAR-10: 60 000 images of 32 x 32 pixels in ten classes."""

from replicate.datasets.cifar import HOME, TERMS, Cifar
from replicate.datasets.files import File

ARCHIVE = File(  # as TensorFlow Datasets pins it
    "cifar-10-binary.tar.gz",
    170052171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
SHA256 = {  # as the Ruby port of torchvision pins them
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
DATASET = Cifar(
    name="cifar10",
    origin="Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009",
    terms=TERMS,
    url=HOME + ARCHIVE.path,
    archive=ARCHIVE,
    files=tuple(
        File(f"cifar-10-batches-bin/{stem}.bin", 30730000, sha256)
        for stem, sha256 in SHA256.items()
    ),
    classes=10,
    label_bytes=1,
    label=0,
)
