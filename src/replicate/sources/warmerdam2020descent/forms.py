"""Beyond the source: the same runs by rows in single and in double precision, and by second
moments.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from replicate import descent, runs
from replicate.sources.protocol import experiment
from replicate.sources.warmerdam2020descent import _arms, _curves, _tasks
from replicate.sources.warmerdam2020descent.settings import Settings

PRECISION_OF_FORM = {"rows float32": "float32", "rows float64": "float64"}  # form -> precision
MOMENTS = "moments"
FORMS = {"ADAM": ("rows float64", MOMENTS), "KS_50_2 corrected": ("rows float64", MOMENTS),
         "KV_50 published": tuple(PRECISION_OF_FORM), "KV_50 corrected": tuple(PRECISION_OF_FORM)}  # fmt: skip


@experiment(
    fields={"arm": tuple(FORMS), "form": (*PRECISION_OF_FORM, MOMENTS)},
    metrics=("height",),
    datasets=("figure9",),
    units=lambda settings: len(settings.sweep_seeds),
)
def forms(settings: Settings) -> pd.DataFrame:
    """Columns: seed, arm, form, height (mean log loss over the budget in forward-equivalents)."""
    return runs.each(run_forms, settings, [{"seed": s} for s in settings.sweep_seeds]).table


def run_forms(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Some arms on the same few rows in each form: columns arm, form, height."""
    seed = point["seed"]
    heights = []
    by_moments = _tasks.make_task(settings, seed, settings.form_rows)
    rows = _tasks.draw_rows(settings, seed, settings.form_rows)
    for arm, forms_of_arm in FORMS.items():
        for form in forms_of_arm:
            loss = descent.rows_loss(_tasks.net_of(settings))
            task = (
                by_moments
                if form == MOMENTS
                else _arms.Task(loss, rows, by_moments.start, PRECISION_OF_FORM[form])
            )
            height = _curves.run_to_mean_log_loss(arm, task, settings.lr, settings)
            heights.append({"arm": arm, "form": form, "height": height})
    return pd.DataFrame(heights)
