"""From the experiments' tables to one estimate a case of a claim."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from replicate.analysis import Estimate, estimate
from replicate.claims import Claim, Measured, load
from replicate.sources.warmerdam2020descent.contests import IN_WALKS, Figures, contests, estimated

SOURCE = "warmerdam2020descent"
FIGURES = ("figure_9", "figure_10", "figure_11", "figure_12", "figure_13")
PARTS = {
    "KEEP-01": "regression nets resnet",
    "KEEP-04": "rate smooth",
    "KEEP-05": "float32 float64",
    "KEEP-06": "well always refused",
    "KEEP-07": "chain final",
    "KEEP-10": "example network",
    "KEEP-12": "early change minibatch",
    "KEEP-13": "sgd adam",
    "KEEP-14": "published corrected",
    "KEEP-15": "slower smoother ahead published",
    "KEEP-16": "published corrected",
    "KEEP-17": "published corrected",
    "KEEP-18": "published corrected",
    "KEEP-19": "published corrected tuned",
    "KEEP-20": "published corrected precision formula",
    "KEEP-21": "slower smoother",
    "KEEP-22": "fastest reaches direct",
    "KEEP-23": "check pays tuned model",
    "KEEP-25": "gradients adam",
    "Y1": "gradient hessian sign update",
    "Y3": "inverse count",
    "Y4": "type",
    "Y5": "seed easy rate",
    "Y6": "factors net same zero",
    "Y9": "kept gain",
    "Y11": "net meaning unit shift minimum parabola limit",
    "Y12": "bias fresh",
    "Y13": "steps rate",
    "Y14": "arguments linear zero",
    "BEYOND-rates": "sgd adam",
    "BEYOND-search": "exact armijo lbfgs",
}
BUILT = (
    *(
        "KEEP-02 KEEP-03 KEEP-08 KEEP-09 KEEP-11 KEEP-24 Y2 Y7 Y8 Y10 Y15 BEYOND-plateau BEYOND-enlarger BEYOND-rows "
    ).split(),
    *(f"{claim}.{part}" for claim, parts in PARTS.items() for part in parts.split()),
)
PREDICTED = (1 - 2 * 0.02) ** 2  # loss ratio a step of gradient descent at the rate of Figure 4, isotropic columns
WITHIN = 1.0  # of an arm's best height: where a rate counts as good
STEP = 0.5  # decades between rates of the sweep
WIDE, UNLIKE = 10, 1.0  # rows a column of a well-posed shape; the condition number of isotropic columns


def measure(tables: Mapping[str, pd.DataFrame]) -> list[Measured]:
    """Every case that the tables decide. tables: experiment name -> what `runs.over` gave, empty where not run."""
    claims = {claim.id: claim for claim in load(SOURCE)}
    found = [
        Measured(row.claim, row.case, Estimate.exact(row.value), _exact(row.control), row.commit, row.device)
        for row in tables["derivations"].itertuples()
    ]
    curves = [tables[name] for name in FIGURES if not tables[name].empty]
    if curves:
        together = pd.concat(curves, ignore_index=True)
        found += _measured(contests(Figures(together), claims), together)
        if not tables["solvers"].empty:
            found += _measured(_newton_on_figure_13(tables["solvers"], Figures(together), claims), tables["solvers"])
    for experiment, cases in CASES.items():
        if tables[experiment].empty:
            continue
        for dataset, part in tables[experiment].groupby("dataset", sort=False):
            found += _measured(cases(dataset, part, claims), part)
    return found


def _measured(cases: Iterator[tuple], table: pd.DataFrame) -> list[Measured]:
    origin = {name: ", ".join(sorted(table[name].unique())) for name in ("commit", "device")}
    return [Measured(claim, case, value, control, **origin) for claim, case, value, control in cases]


def _figure_4(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-04, Y5.easy and Y5.rate."""
    losses = {arm: rows.pivot(index="seed", columns="iteration", values="loss") for arm, rows in part.groupby("arm")}
    claim, case, own = claims["KEEP-04.rate"], f"{dataset} gradient descent", losses["the rate"]
    both = (own, losses["half the rate"].dropna(axis=1))
    ratio, half = ((one.iloc[:, -1] / one[0]) ** (1 / one.columns[-1]) / PREDICTED for one in both)
    yield claim.id, case, estimated(claim, ratio), estimated(claim, half)
    falls = (own.diff(axis=1).iloc[:, 1:] < 0).mean(axis=1)
    yield "KEEP-04.smooth", case, estimated(claims["KEEP-04.smooth"], falls), None
    yield "Y5.easy", dataset, Estimate.exact(float(part.condition.max())), None
    claim = claims["Y5.rate"]
    third, slow = (np.log10(losses[arm][3] / losses[arm][0]) for arm in ("rate 1/2", "the rate"))
    yield claim.id, f"{dataset} gradient descent at 1/2", estimated(claim, third), estimated(claim, slow)


def _figure_5(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-05; the control is the first gradient step at rate 1/2, which `solvers` and `figure_4` know."""
    for arm, rows in part.groupby("arm"):
        claim = claims[f"KEEP-05.{arm.removeprefix('newton ')}"]
        losses = rows.pivot(index="seed", columns="iteration", values="loss")
        control = rows.drop_duplicates("seed").set_index("seed").control
        yield claim.id, f"{dataset} newton", estimated(claim, _drop(losses)), estimated(claim, control)


def _shapes(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-06: the worst shape of each kind."""
    well = part[(part.rows >= WIDE * (part["columns"] + 1)) & (part.asked == UNLIKE)]
    few = part[part.rows < part["columns"] + 1]
    ill = part[part.asked > UNLIKE]
    claim, always = claims["KEEP-06.well"], claims["KEEP-06.always"]
    yield claim.id, f"{dataset} well-posed shapes", estimated(claim, well.groupby("seed")["drop"].max()), None
    for name, rows in (("all", part), ("undetermined", few), ("ill-conditioned", ill)):
        control = estimated(always, rows.groupby("seed").checked.max())
        yield always.id, f"{dataset} {name} shapes", estimated(always, rows.groupby("seed")["drop"].max()), control


def _solvers(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-09 on the regression."""
    if dataset != "regression":
        return
    claim = claims["KEEP-09"]
    for precision, rows in part.groupby("precision"):
        seconds = rows.pivot(index="seed", columns="solver", values="seconds")
        for newton in [name for name in seconds if name.startswith("newton")]:
            own, plain = (np.log10(seconds[name] / seconds[newton]) for name in ("scikit-learn", "normal equations"))
            case = f"{dataset} {precision}{newton.removeprefix('newton')}"
            yield claim.id, case, estimated(claim, own), estimated(claim, plain)


def _newton_on_figure_13(solvers: pd.DataFrame, figures: Figures, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-22: one published Newton iteration against everything else on Figure 13."""
    dataset = "figure13"
    rows = solvers[(solvers.dataset == dataset) & (solvers.precision == "float32")]
    if rows.empty:
        return
    seconds = rows.pivot(index="seed", columns="solver", values="seconds")
    newton, case = seconds["newton"], f"{dataset} newton"
    claim = claims["KEEP-22.reaches"]
    yield claim.id, case, estimated(claim, rows.groupby("seed")["newton drop"].first()), None
    claim = claims["KEEP-22.direct"]
    for rival in ("lapack", "scikit-learn"):
        control = estimated(claim, np.log10(seconds["normal equations"] / seconds[rival]))
        name = case if rival == "lapack" else f"{case} vs {rival}"
        yield claim.id, name, estimated(claim, np.log10(newton / seconds[rival])), control
    if dataset in figures.datasets:
        claim = claims["KEEP-22.fastest"]
        arms = figures.table[(figures.table.dataset == dataset) & (figures.table.rate == "tuned")].arm.unique()
        costs = [figures.cost(-10, dataset, arm, rate="tuned") for arm in arms if arm.startswith(IN_WALKS)]
        least = pd.concat(costs, axis=1).min(axis=1)
        both = seconds.index.intersection(least.index)
        own, lapack = (np.log10(seconds[name][both] / least[both]) for name in ("newton", "lapack"))
        yield claim.id, case, estimated(claim, own), estimated(claim, lapack)


def _shares(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-01, KEEP-23.check and Y10."""
    seconds = part.pivot(index="seed", columns="part", values="seconds")
    if dataset == "regression":
        claim, loop = claims["KEEP-01.regression"], seconds[["loss", "gradient", "step"]].sum(axis=1)
        yield claim.id, f"{dataset} gradient", _ratio(claim, seconds.gradient, loop), None
        return
    claim = claims["KEEP-01.resnet" if dataset == "resnet18" else "KEEP-01.nets"]
    gradient = seconds.forward + seconds.backward
    for update in ("step", "adam"):
        loop, name = gradient + seconds[update], "" if update == "step" else ", Adam"
        yield claim.id, f"{dataset} forward and backward{name}", _ratio(claim, gradient, loop), None
        yield claim.id, f"{dataset} backward{name}", _ratio(claim, seconds.backward, loop), None
    claim = claims["KEEP-23.check"]
    yield claim.id, dataset, _ratio(claim, seconds.check, gradient), None
    claim = claims["Y10"]
    yield claim.id, dataset, _ratio(claim, seconds.forward, seconds.check), None


def _break_even(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-23.model: predicted over measured speed-up, for all lengths and for each."""
    claim = claims["KEEP-23.model"]
    ratio = part.assign(ratio=part.predicted / part.measured).pivot(index="seed", columns="walk", values="ratio")
    yield claim.id, dataset, estimated(claim, ratio.mean(axis=1)), None
    for walk in ratio:
        yield claim.id, f"{dataset} J = {walk}", estimated(claim, ratio[walk]), None


def _directions(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-12 on the whole set."""
    cosine = part.pivot(index="seed", columns=["rate", "tenth"], values="cosine")
    last = part.tenth.max()
    early, change = claims["KEEP-12.early"], claims["KEEP-12.change"]
    yield early.id, dataset, estimated(early, cosine["source", 0]), estimated(early, cosine["tuned", last])
    for rate, name in (("source", ""), ("tuned", " tuned rate")):
        yield change.id, dataset + name, estimated(change, cosine[rate, 0] - cosine[rate, last]), None
    yield early.id, f"{dataset} tuned rate", estimated(early, cosine["tuned", 0]), None


def _minibatches(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-12.minibatch and Y12; the largest batch is the whole set."""
    wide = part.pivot(index="seed", columns=["checks", "batch"], values=["bias", "loss", "cosine"])
    *small, whole = sorted(part.batch.unique())
    claim = claims["KEEP-12.minibatch"]
    for batch in small:
        control = estimated(claim, wide["cosine", "same", small[-1]]) if batch != small[-1] else None
        yield claim.id, f"{dataset} {batch}", estimated(claim, wide["cosine", "same", batch]), control
    claim, fresh = claims["Y12.bias"], claims["Y12.fresh"]
    for batch in small:
        control = estimated(claim, wide["bias", "same", whole])
        yield claim.id, f"{dataset} {batch}", estimated(claim, wide["bias", "same", batch]), control
        yield claim.id, f"{dataset} {batch} fresh", estimated(claim, wide["bias", "fresh", batch]), None
        lower = [wide["loss", "fresh", b] - wide["loss", "same", b] for b in (batch, small[-1])]
        yield fresh.id, f"{dataset} {batch}", *(estimated(fresh, values) for values in lower)


def _overfit(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-24: test minus training loss against that of SGD; training losses are alike by the choice of the step."""
    claim = claims["KEEP-24"]
    test = part.pivot(index="seed", columns="arm", values="test")
    control = estimated(claim, test["ADAM"] - test["SGD"])
    yield claim.id, f"{dataset} KS_50_2 corrected", estimated(claim, test["KS_50_2 corrected"] - test["SGD"]), control


def _rates(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """BEYOND-rates: decades of rates that are good enough."""
    swept = part[part.use == "sweep"].pivot(index=["seed", "arm"], columns="lr", values="height")
    good = swept.le(swept.min(axis=1) + WITHIN, axis=0).sum(axis=1) * STEP
    wide = good.unstack("arm")
    for name, rival in (("sgd", "SGD"), ("adam", "ADAM")):
        claim = claims[f"BEYOND-rates.{name}"]
        control = estimated(claim, wide["ARMIJO"] - wide[rival]) if "ARMIJO" in wide else None
        yield claim.id, dataset, estimated(claim, wide["KS_50_2 corrected"] - wide[rival]), control


def _forms(dataset: str, part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """BEYOND-rows and KEEP-20.precision."""
    height = part.pivot(index="seed", columns=["arm", "form"], values="height")
    claim = claims["BEYOND-rows"]
    pairs = [height[arm, "moments"] - height[arm, "rows float64"] for arm in ("KS_50_2 corrected", "ADAM")]
    yield claim.id, dataset, estimated(claim, sum(pairs) / len(pairs)), None
    claim = claims["KEEP-20.precision"]
    arms = [height[f"KV_50 {v}"] for v in ("published", "corrected")]
    gains = [arm["rows float32"] - arm["rows float64"] for arm in arms]
    yield claim.id, f"{dataset} KV_50 published", *(estimated(claim, values) for values in gains)


CASES = {
    "figure_4": _figure_4, "figure_5": _figure_5, "shapes": _shapes, "solvers": _solvers, "shares": _shares,
    "break_even": _break_even, "directions": _directions, "minibatches": _minibatches, "overfit": _overfit,
    "rates": _rates, "forms": _forms,
}  # fmt: skip


def _ratio(claim: Claim, numerator: pd.Series, denominator: pd.Series) -> Estimate:
    table = pd.DataFrame({"numerator": numerator, "denominator": denominator}).reset_index().assign(branch=0)
    return estimate(table, claim.kind, claim.band)


def _drop(losses: pd.DataFrame) -> pd.Series:
    """log10 of the second loss over the first; a loss of exactly 0 counts as 1e-30 of it."""
    return np.log10((losses[1] / losses[0]).clip(lower=1e-30))


def _exact(value: float) -> Estimate | None:
    return None if pd.isna(value) else Estimate.exact(value)
