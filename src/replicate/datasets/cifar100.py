"""CIFAR-100 with its fine labels: 60 000 images of 32 x 32 pixels in a hundred classes."""

from replicate.datasets.cifar import HOME, TERMS, Cifar
from replicate.datasets.files import File

ARCHIVE = File(  # as TensorFlow Datasets pins it
    "cifar-100-binary.tar.gz",
    168513733,
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
TRAIN = File(  # as the Ruby port of torchvision pins it, and TEST
    "cifar-100-binary/train.bin",
    153700000,
    "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
)
TEST = File(
    "cifar-100-binary/test.bin",
    30740000,
    "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
)
DATASET = Cifar(
    name="cifar100",
    origin="Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009",
    terms=TERMS,
    url=HOME + ARCHIVE.path,
    archive=ARCHIVE,
    files=(TRAIN, TEST),
    classes=100,
    label_bytes=2,
    label=1,  # the fine one; the coarse one stands before it
)
