"""The post's settings and what each preset changes in them. Six tasks of the post, and three of ours."""

from dataclasses import replace

from replicate.sources.warmerdam2020descent.settings import ARMS, Settings

PAPER = Settings()
TASKS = {
    "regression": replace(PAPER, dataset="regression", rows=1_000_000, columns=10, maps=1, lr=0.02, steps=100),
    "figure9": PAPER,
    "figure10": replace(PAPER, dataset="figure10", lr=1e-4),
    "figure11": replace(PAPER, dataset="figure11", rows=100_000, columns=100, width=20, lr=1e-4),
    "figure12": replace(PAPER, dataset="figure12", rows=100_000, columns=10, maps=5, activation="relu", lr=1e-4),
    "figure13": replace(PAPER, dataset="figure13", rows=100_000, columns=100, maps=1, lr=1e-4),
    "figure13code": replace(PAPER, dataset="figure13code", rows=100_000, columns=100, width=20, maps=2, lr=1e-4),
    "minibatch": replace(PAPER, dataset="minibatch", noise=1.0),
    "overfit": replace(PAPER, dataset="overfit", rows=60, noise=1.0, batches=(60,)),
    "resnet18": replace(PAPER, dataset="resnet18", rows=32, batches=(32,), tuning_rows=32),
}
ALGEBRA = {"algebra": replace(PAPER, dataset="algebra")}

SEEDS = tuple(range(10))
HALF_DECADES = tuple(float(f"1e{k // 2}") if k % 2 == 0 else float(f"3e{k // 2}") for k in range(-10, 3))  # 1e-5 to 10
SHALLOW = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # fewer maps have less curvature: the same number of rates, higher
WIDE = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # a hundred columns have more: lower
TUNED = ("SGD", "ADAM", "KS_50_0 corrected", "KS_50_2 corrected", "KS_50_2 rollback", "KV_50 published",
         "KV_50 corrected", "ARMIJO", "EXACT", "LBFGS")  # fmt: skip
WITH_RELU = tuple(arm for arm in ARMS if arm != "EXACT")
FEW = ("SGD", "ADAM", "KS_50_0 published", "KS_50_2 published", "KS_50_2 corrected", "KV_50 published")
FEWEST = ("SGD", "ADAM", "KS_50_2 published", "KS_50_2 corrected")
FEWER = ("SGD", "ADAM", "KS_50_2 corrected")
SWEPT = ("SGD", "ADAM", "KS_50_0 corrected", "KS_50_2 corrected", "KV_50 corrected", "ARMIJO")


def measured(task: Settings) -> Settings:
    """A task with seeds, arms and rates enough for an interval."""
    about = {"seeds": SEEDS, "arms": ARMS, "tuned": TUNED, "sweep": HALF_DECADES, "sweep_seeds": SEEDS[:8],
             "sweep_arms": SWEPT}  # fmt: skip
    if task.activation == "relu":
        about |= {"arms": WITH_RELU, "tuned": tuple(arm for arm in TUNED if arm != "EXACT")}
    if task.maps < 3:
        about |= {"grid": SHALLOW}
    if task.dataset == "figure11":
        about |= {"grid": WIDE}
    return replace(task, **about, tuning_rows=min(task.rows, 10_000))


FULL = {name: measured(task) for name, task in TASKS.items()}
FULL["minibatch"] = replace(FULL["minibatch"], batches=(64, 2048, 10_000))

CPU = dict(FULL)
CPU["figure11"] = replace(FULL["figure11"], blocks=6)
CPU["figure12"] = replace(FULL["figure12"], seeds=(0, 1), arms=FEW, tuned=FEWER, tuning_rows=2000, blocks=6)
CPU["figure13code"] = replace(FULL["figure13code"], arms=FEW, tuned=FEWER, blocks=6)
CPU["minibatch"] = replace(FULL["minibatch"], seeds=SEEDS[:6], steps=400)
CPU["regression"] = replace(FULL["regression"], seeds=SEEDS[:6], repeats=2, blocks=8)
CPU["figure13"] = replace(FULL["figure13"], fit_repeats=1, fit_precisions=("float32",), blocks=6)
CPU["resnet18"] = replace(FULL["resnet18"], repeats=1, blocks=8)

GPU = {name: replace(one, repeats=9, fit_repeats=5) for name, one in FULL.items()}
GPU["resnet18"] = replace(GPU["resnet18"], rows=128, batches=(128,), tuning_rows=128)
TWENTY = {name: replace(one, seeds=tuple(range(20)), blocks=20) for name, one in FULL.items()}


def tiny(task: Settings) -> Settings:
    """A task at which every line runs once. Most of that is compiling, which fewer maps and equal shapes shorten."""
    rows, maps = min(task.rows, 1000), min(task.maps, 2)
    columns = {"figure11": PAPER.columns, "figure13": 10}.get(task.dataset, task.columns)
    about = {"rows": rows, "tuning_rows": min(rows, 500), "form_rows": 200, "test_rows": 500, "steps": 20, "maps": maps,
             "columns": columns, "width": PAPER.width, "walk_gradients": 5, "seeds": (0, 1), "tuning_seeds": (1000,),
             "grid": task.grid[2:4], "sweep": (1e-3, 1e-2), "sweep_seeds": (0, 1), "sweep_arms": FEWER, "arms": FEWEST,
             "tuned": FEWER, "repeats": 1, "fit_repeats": 1, "fit_precisions": ("float32",), "blocks": 1}  # fmt: skip
    about["batches"] = tuple(sorted({min(b, rows) for b in task.batches}))
    return replace(task, **about)


SMOKE = {name: tiny(task) for name, task in FULL.items() if name != "figure13code"}
SMOKE["resnet18"] = replace(SMOKE["resnet18"], rows=2, tuning_rows=2, batches=(2,))

PRESETS: dict[str, dict[str, Settings]] = {"smoke": SMOKE, "cpu": CPU, "gpu": GPU, "paper": TWENTY}
