"""ImageNet at 224 x 224 pixels, in shards that `python -m replicate data shard` makes once."""

from replicate.datasets.sharded import Sharded

DATASET = Sharded(
    name="imagenet",
    origin="ImageNet (ILSVRC 2012), the whole of each photograph reduced to 224 x 224 pixels",
    terms=(
        "ImageNet's, non-commercial research and education; the photographs belong to their owners."
    ),
    by_hand=(
        "it is never fetched: with the official folders at hand, run "
        "python -m replicate data shard imagenet TREE"
    ),
    shape=(3, 224, 224),
    classes=1000,
    train_images=1_281_167,
    test_images=50_000,
)
