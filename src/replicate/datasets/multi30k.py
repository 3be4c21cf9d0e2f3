"""Multi30k, task 1: descriptions of photographs in English and German, as raw text."""

from replicate.datasets.files import File
from replicate.datasets.text import ParallelText

CHECKSUMS = {  # of the gzip files, with their bytes; English is the source
    "train.en.gz": (568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "train.de.gz": (637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "val.en.gz": (21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
    "val.de.gz": (24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "test_2016_flickr.en.gz": (
        21077,
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ),
    "test_2016_flickr.de.gz": (
        22890,
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ),
}
DATASET = ParallelText(
    name="multi30k",
    origin="Elliott et al., *Multi30K: Multilingual English-German Image Descriptions*, 2016, task 1",
    terms=(
        "The repository names no licence for the text; the Flickr30K images that it derives from are "
        "for non-commercial research and education."
    ),
    by_hand=(
        "it is never fetched: put the folder multi30k/ with the six files of data/task1/raw of "
        "github.com/multi30k/dataset there, or set REPLICATE_DATA to a folder that has it"
    ),
    files=tuple(
        File(f"multi30k/{name}", size, sha256) for name, (size, sha256) in CHECKSUMS.items()
    ),
    languages=("en", "de"),
    sentences=(29000, 1014, 1000),
)
