"""ImageNet at 64 x 64 pixels, in shards that `python -m replicate data shard` makes once."""

from replicate.datasets.sharded import Sharded

DATASET = Sharded(
    name="imagenet-64",
    origin="ImageNet (ILSVRC 2012), the whole of each photograph reduced to 64 x 64 pixels",
    terms=(
        "ImageNet's, non-commercial research and education; the photographs belong to their owners."
    ),
    by_hand=(
        "it is never fetched: with the official folders at hand, run "
        "python -m replicate data shard imagenet-64 TREE"
    ),
    shape=(3, 64, 64),
    classes=1000,
    train_images=1_281_167,
    test_images=50_000,
)
