"""The Penn Treebank's Wall Street Journal text in Mikolov's form: lower case, N for numbers, the
10 000 most frequent words.
"""

from replicate.datasets.files import File
from replicate.datasets.text import RunningText

DATASET = RunningText(
    name="ptb",
    origin=(
        "Marcus, Marcinkiewicz and Santorini, *Building a Large Annotated Corpus of English: The Penn "
        "Treebank*, 1993, as Mikolov et al. 2010 prepared it"
    ),
    terms=(
        "No open licence: the text is the Wall Street Journal's, licensed by the Linguistic Data "
        "Consortium."
    ),
    by_hand=(
        "it is never fetched: put the folder ptb/ with ptb.train.txt, ptb.valid.txt and ptb.test.txt "
        "there (data/README.md says which), or set REPLICATE_DATA to a folder that has it"
    ),
    files=(
        File(
            "ptb/ptb.train.txt",
            5101618,
            "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        ),
        File(
            "ptb/ptb.valid.txt",
            399782,
            "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        ),
        File(
            "ptb/ptb.test.txt",
            449945,
            "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        ),
    ),
    tokens=(929589, 73760, 82430),
    types=10000,
)
