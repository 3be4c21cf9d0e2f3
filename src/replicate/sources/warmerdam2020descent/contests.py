"""Figures 9 to 13 as numbers: who is ahead of whom, on which axis, and how sure that is."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from replicate.analysis import Estimate, estimate
from replicate.claims import Claim
from replicate.sources.warmerdam2020descent.curves import AXES

KEYS = ["dataset", "arm", "rate", "start", "axis"]
OWN = {"figure9": "KEEP-14", "figure11": "KEEP-16", "figure12": "KEEP-17", "figure13": "KEEP-18"}
ON_FIGURE_10 = {"corrected": "KEEP-15.ahead", "published": "KEEP-15.published"}
TASKS = ("figure9", "figure10", "figure11", "figure12", "figure13")
BLUNT = "KS_50_0 published"
IMPATIENT = "KS_50_2 corrected"
VARIANTS = ("published", "corrected")
PRINTED = ("SGD", "ADAM", *(f"K{name} published" for name in ("S_50_0", "S_50_2", "S_10_0", "S_10_2", "V_10", "V_50")))
SECOND = "seconds"
MIDDLE = {0.25: "at 25 %", 0.5: "at 50 %", 1.0: "at 100 %"}
CLOSE_TO = -2
FAST_ENOUGH = -10
IN_WALKS = ("SGD", "ADAM", "K")  # first letters of the arms that KEEP-22.fastest is held against


class Figures:
    """The tables of Figures 9 to 13 together; each number is a Series over seeds."""

    def __init__(self, table: pd.DataFrame):
        """table: what the figures' experiments gave, with the column dataset."""
        self.table = table
        keys = [*KEYS, "seed"]
        table = table.sort_values(keys)
        self._height = table.groupby(keys).loss.mean().unstack("seed")
        self._once = table[table.share == 1.0].set_index(keys).sort_index()
        self._at = {share: table[table.share == share].set_index(keys).loss.unstack("seed") for share in MIDDLE}
        self.datasets = [d for d in (*TASKS, "figure13code") if (table.dataset == d).any()]

    def height(self, dataset: str, arm: str, axis: str = SECOND, rate: str = "source", start: str = "source"):
        """Mean log loss over the axis's budget."""
        return self._height.loc[(dataset, arm, rate, start, axis)].dropna()

    def at(self, share: float, dataset: str, arm: str, axis: str = SECOND):
        """Log loss at a share of the budget, at the source's rate."""
        return self._at[share].loc[(dataset, arm, "source", "source", axis)].dropna()

    def of_run(self, column: str, dataset: str, arm: str, axis: str = SECOND, rate: str = "source"):
        """A column that is the same all along a run: lr, rises, budget or a cost to a target."""
        return self._once[column].loc[(dataset, arm, rate, "source", axis)]

    def cost(self, target: int, dataset: str, arm: str, axis: str = SECOND, rate: str = "source"):
        """Cost to a target; the budget where it was not reached."""
        reached = self.of_run(f"to {target}", dataset, arm, axis, rate)
        return reached.fillna(self.of_run("budget", dataset, arm, axis, rate))

    def has(self, *arms: str, dataset: str, rate: str = "source", start: str = "source") -> bool:
        """Whether all these arms ran on a figure at this rate and from this start."""
        return all((dataset, arm, rate, start, SECOND) in self._height.index for arm in arms)

    def tasks(self) -> list[str]:
        """The figures that ran on as many seeds as any, in the post's order."""
        seeds = {d: self.table[self.table.dataset == d].seed.nunique() for d in self.datasets if d in TASKS}
        return [d for d, count in seeds.items() if count == max(seeds.values())]


def estimated(claim: Claim, values: pd.Series) -> Estimate:
    """The mean of one value a seed, with interval and p for the claim's band."""
    table = pd.DataFrame({"seed": values.index, "branch": 0, "value": values.to_numpy()})
    return estimate(table, claim.kind, claim.band)


def contests(figures: Figures, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """(claim, case, estimate, control) of every row that Figures 9 to 13 decide."""
    for dataset in figures.datasets:
        yield from _on_one(figures, dataset, claims)
    if set(figures.tasks()) >= {"figure9", "figure10"}:
        yield from _rate_of_figure_10(figures, claims)
    if len(figures.tasks()) > 1:
        yield from _over_figures(figures, claims)


def _on_one(figures: Figures, dataset: str, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    yield from _ahead_of_adam(figures, dataset, claims)
    yield from _per_gradient(figures, dataset, claims)
    yield from _worth(figures, dataset, claims)
    yield from _beyond(figures, dataset, claims)


def _ahead_of_adam(figures: Figures, dataset: str, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-14 to KEEP-18: the impatient walk against Adam, on three axes and at three places."""
    for variant in VARIANTS:
        own = f"{OWN.get(dataset.removesuffix('code'))}.{variant}"
        claim = claims[ON_FIGURE_10[variant] if dataset == "figure10" else own]
        arm = f"KS_50_2 {variant}"
        for axis in AXES:
            adam = figures.height(dataset, "ADAM", axis)
            control = estimated(claim, figures.height(dataset, "SGD", axis, "tuned") - adam)
            lead = estimated(claim, figures.height(dataset, arm, axis) - adam)
            yield claim.id, f"{dataset} {arm} {axis}", lead, control
        for share, place in MIDDLE.items():
            ahead = figures.at(share, dataset, arm) - figures.at(share, dataset, "ADAM")
            yield claim.id, f"{dataset} {arm} seconds {place}", estimated(claim, ahead), None


def _per_gradient(figures: Figures, dataset: str, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-11 on every axis, and Y6.same and Y9.gain."""
    claim = claims["KEEP-11"]
    for arm in (BLUNT, "KS_50_0 corrected", IMPATIENT):
        for axis in AXES:
            if figures.has(arm, dataset=dataset):
                sgd = figures.height(dataset, "SGD", axis)
                control = estimated(claim, figures.height(dataset, "SGD", axis, "tuned") - sgd)
                lead = estimated(claim, figures.height(dataset, arm, axis) - sgd)
                yield claim.id, f"{dataset} {arm} {axis}", lead, control
    claim, sgd = claims["Y6.same"], figures.height(dataset, "SGD", "gradients")
    same, fixed = (figures.height(dataset, f"KS_50_2 {v}", "gradients") - sgd for v in VARIANTS)
    yield claim.id, dataset, estimated(claim, same), estimated(claim, fixed)
    if figures.has("KS_50_2 rollback", dataset=dataset):
        claim = claims["Y9.gain"]
        gain = figures.height(dataset, "KS_50_2 rollback") - figures.height(dataset, IMPATIENT)
        yield claim.id, dataset, estimated(claim, gain), None


def _worth(figures: Figures, dataset: str, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-23: seconds to a hundredth of the start's loss, at the source's rate and at tuned rates; KEEP-20.formula."""
    for name, rate, rival in (("KEEP-23.pays", "source", "SGD"), ("KEEP-23.tuned", "tuned", "ARMIJO")):
        claim = claims[name]
        if figures.has(IMPATIENT, "SGD", dataset=dataset, rate=rate):
            sgd = figures.cost(CLOSE_TO, dataset, "SGD", rate=rate)
            own = np.log10(figures.cost(CLOSE_TO, dataset, IMPATIENT, rate=rate) / sgd)
            control = None
            if figures.has(rival, dataset=dataset, rate="tuned"):
                other = np.log10(figures.cost(CLOSE_TO, dataset, rival, rate="tuned") / sgd)
                control = estimated(claim, other)
            yield claim.id, dataset, estimated(claim, own), control
    claim = claims["KEEP-20.formula"]
    if figures.has("KV_50 published", "KV_50 corrected", dataset=dataset):
        for axis in AXES:
            printed, meant = (figures.height(dataset, f"KV_50 {v}", axis) for v in VARIANTS)
            yield claim.id, f"{dataset} KV_50 {axis}", estimated(claim, printed - meant), None


def _beyond(figures: Figures, dataset: str, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """Rows of ours: the plateau, the plainest enlarger, and classical line searches."""
    if figures.has("SGD", IMPATIENT, dataset=dataset, start="orthogonal"):
        sgd, walk = ([figures.height(dataset, arm, "gradients", start=s) for s in ("source", "orthogonal")]
                     for arm in ("SGD", IMPATIENT))  # fmt: skip
        lead = (sgd[0] - walk[0]) - (sgd[1] - walk[1])
        yield "BEYOND-plateau", dataset, estimated(claims["BEYOND-plateau"], lead), None
    claim, axis = claims["BEYOND-enlarger"], "forward-equivalents"
    if figures.has("SGD", dataset=dataset, rate="enlarged"):
        enlarged = figures.height(dataset, "SGD", axis, "enlarged") - figures.height(dataset, IMPATIENT, axis)
        yield claim.id, dataset, estimated(claim, enlarged), None
    for name, arm, axis in (("exact", "EXACT", "gradients"), ("armijo", "ARMIJO", SECOND), ("lbfgs", "LBFGS", SECOND)):
        claim = claims[f"BEYOND-search.{name}"]
        if figures.has(arm, IMPATIENT, dataset=dataset, rate="tuned"):
            lead = figures.height(dataset, arm, axis, "tuned") - figures.height(dataset, IMPATIENT, axis, "tuned")
            yield claim.id, dataset, estimated(claim, lead), None


def _rate_of_figure_10(figures: Figures, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-15 and KEEP-21: Figure 10 against Figure 9, the same data and start at a tenth of the rate."""
    slower, smoother = claims["KEEP-15.slower"], claims["KEEP-15.smoother"]
    arms = [arm for arm in (*PRINTED, IMPATIENT) if figures.has(arm, dataset="figure9")]
    costs = {arm: [figures.cost(CLOSE_TO, d, arm) for d in ("figure9", "figure10")] for arm in arms}
    rises = {arm: figures.of_run("rises", "figure10", arm) - figures.of_run("rises", "figure9", arm) for arm in arms}
    for arm in arms:
        yield slower.id, f"figure10 {arm} seconds", estimated(slower, np.log10(costs[arm][1] / costs[arm][0])), None
        yield smoother.id, f"figure10 {arm} seconds", estimated(smoother, rises[arm]), None
    printed = [arm for arm in PRINTED if arm in arms]
    reached = {arm: figures.of_run(f"to {CLOSE_TO}", "figure9", arm) for arm in printed}
    later = [((costs[arm][1] > costs[arm][0]) & reached[arm].notna()).astype(float) for arm in printed]
    yield "KEEP-21.slower", "figure10 all", estimated(claims["KEEP-21.slower"], sum(later) / len(later)), None
    mean = sum(rises[arm] for arm in printed) / len(printed)
    yield "KEEP-21.smoother", "figure10 all", estimated(claims["KEEP-21.smoother"], mean), None


def _over_figures(figures: Figures, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """KEEP-13, KEEP-19 and KEEP-20: on how many of the figures."""
    tasks = figures.tasks()
    where = "figures " + " ".join(d.removeprefix("figure") for d in tasks)

    def share(arm, rival, axis=SECOND, rate="source", rival_rate=None, start="source") -> pd.Series | None:
        pairs = ((arm, rate), (rival, rival_rate or rate))
        if not all(figures.has(a, dataset=d, rate=r, start=start) for d in tasks for a, r in pairs):
            return None
        won = []
        for d in tasks:
            other = figures.height(d, rival, axis, rival_rate or rate, start)
            won.append((figures.height(d, arm, axis, rate, start) < other).astype(float))
        return sum(won) / len(won)

    for axis in AXES:
        for arm in (BLUNT, "KS_50_0 corrected", "KS_50_2 published", IMPATIENT):
            yield from _row(claims["KEEP-13.sgd"], f"{where} {arm} {axis}", share(arm, "SGD", axis),
                            share(arm, "SGD", axis, start="orthogonal"))  # fmt: skip
            yield from _closest_to_adam(figures, tasks, arm, axis, f"{where} {arm} {axis}", claims["KEEP-13.adam"])
        for variant in VARIANTS:
            arm, tuned_sgd = f"KS_50_2 {variant}", share("SGD", "ADAM", axis, "tuned", "source")
            yield from _row(claims[f"KEEP-19.{variant}"], f"{where} {arm} {axis}", share(arm, "ADAM", axis), tuned_sgd)
            case = f"{where} KV_50 published vs {arm} {axis}"
            slower = share(arm, "KV_50 published", axis)
            yield from _row(claims[f"KEEP-20.{variant}"], case, slower, None)
        yield from _row(claims["KEEP-19.tuned"], f"{where} {IMPATIENT} {axis}", share(IMPATIENT, "ADAM", axis, "tuned"),
                        share("ARMIJO", "ADAM", axis, "tuned"))  # fmt: skip
    pairs = [(d, arm) for d in tasks for arm in ("SGD", "ADAM")]
    above = [figures.of_run("lr", *pair, rate="tuned").min() / figures.of_run("lr", *pair).min() for pair in pairs]
    yield "Y13.rate", f"{where} SGD and ADAM", Estimate.exact(math.log10(min(above))), None


def _row(claim: Claim, case: str, values: pd.Series | None, control: pd.Series | None) -> Iterator[tuple]:
    if values is not None:
        yield claim.id, case, estimated(claim, values), None if control is None else estimated(claim, control)


def _closest_to_adam(figures: Figures, tasks: list, arm: str, axis: str, case: str, claim: Claim) -> Iterator[tuple]:
    if all(figures.has(arm, dataset=d) for d in tasks):
        behind = [
            pd.concat([figures.height(d, a, axis) - figures.height(d, "ADAM", axis) for d in tasks], axis=1).min(axis=1)
            for a in (arm, "SGD")
        ]
        yield claim.id, case, *(estimated(claim, values) for values in behind)
