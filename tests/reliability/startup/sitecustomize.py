"""What every Python starts with that has this folder on PYTHONPATH, workers of joblib among them: one
source more, made for tests, whose walks are saved after every step; and the folder WALKS_BUILD for
what is built.
"""

import os
from pathlib import Path

if "WALKS_BUILD" in os.environ:
    import replicate.sources
    from replicate import paths, progress

    replicate.sources.__path__.append(str(Path(__file__).parents[1] / "sources"))
    progress.SAVE_SECONDS, progress.SAVE_SHARE = 0, 1
    paths.BUILD = Path(os.environ["WALKS_BUILD"])
