"""What the sources say, as rows of data, and what our measurements say about each row.

A verdict is drawn from an interval against a band that was fixed before the run: `reproduced` only if the whole
interval lies in the band, `contradicted` only if all of it lies outside, else `inconclusive`. The primary cases of one
claims file share one error rate (Holm); a firm verdict needs the interval and the adjusted p.
"""

import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from replicate.errors import BadData, unknown
from replicate.paths import CLAIMS

PRESETS = ("smoke", "cpu", "gpu", "paper")
KINDS = ("exact", "ordering", "equivalence", "estimate", "erratum")
VERDICTS = ("reproduced", "contradicted", "inconclusive", "not tested")
WITHOUT_INTERVAL = ("exact", "erratum")
REASONS = ("not built yet", "needs ", "text or figure not available")  # or "<data set> not at hand"
ALPHA = 0.05  # error rate of all firm verdicts of one claims file together
FEWEST_UNITS = 5
COLUMNS = (
    "source claim case kind where statement preset verdict reason value low high level unit n p control commit device"
).split()


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of a source: it holds when `quantity` lies in [at_least, at_most]."""

    id: str
    where: str
    statement: str
    kind: str
    quantity: str
    unit: str
    needs: str
    at_least: float = -math.inf
    at_most: float = math.inf
    control: str = ""
    primary_case: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        """Raises BadData if a field has a value outside its vocabulary or the band has no edge."""
        for name, value, known in (("kind", self.kind, KINDS), ("needs", self.needs, PRESETS)):
            if value not in known:
                raise BadData(f"claim {self.id}: {name} must be one of {', '.join(known)}, got {value!r}")
        if not (math.isfinite(self.at_least) or math.isfinite(self.at_most)) or not self.at_least <= self.at_most:
            raise BadData(f"claim {self.id}: band must have an edge, got [{self.at_least}, {self.at_most}]")
        if bad := set(self.primary_case) - set(PRESETS):
            raise BadData(f"claim {self.id}: primary_case names unknown presets {sorted(bad)}")

    @property
    def band(self) -> tuple[float, float]:
        """(at_least, at_most), infinite where open."""
        return self.at_least, self.at_most

    def holds(self, estimate) -> str:
        """The verdict of the interval alone. estimate: anything with `.low` and `.high`."""
        if self.at_least <= estimate.low and estimate.high <= self.at_most:
            return "reproduced"
        if estimate.high < self.at_least or estimate.low > self.at_most:
            return "contradicted"
        return "inconclusive"


@dataclass(frozen=True)
class Measured:
    """What one case of a claim came out as: estimates as `analysis.estimate` gives them, and where they were made."""

    claim: str
    case: str
    estimate: object
    control: object = None
    commit: str = ""
    device: str = ""


def load(source: str) -> list[Claim]:
    """The claims of one source in the order of its pages. Raises BadData, or BadParameter for an unknown source."""
    path = CLAIMS / f"{source}.toml"
    if not path.exists():
        raise unknown("source", source, (p.stem for p in CLAIMS.glob("*.toml")))
    known = {f.name for f in fields(Claim)}
    claims = []
    for row in _rows(path):
        if strange := set(row) - known:
            raise BadData(f"{path.name}: claim {row.get('id')}: unknown field {sorted(strange)[0]!r}")
        try:
            claims.append(Claim(**row))
        except TypeError as error:
            raise BadData(f"{path.name}: claim {row.get('id')}: {error}") from None
    if repeated := {c.id for c in claims if [d.id for d in claims].count(c.id) > 1}:
        raise BadData(f"{path.name}: claim {sorted(repeated)[0]} stands there more than once")
    return claims


def _rows(path: Path) -> list[dict]:
    try:
        return tomllib.loads(path.read_text())["claim"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise BadData(f"{path.name}: no list of [[claim]] in TOML: {error}") from None


def judge(
    source: str,
    claims: Iterable[Claim],
    measured: Iterable[Measured],
    preset: str,
    built: Collection[str] = (),
    absent: Collection[str] = (),
) -> pd.DataFrame:
    """One row a case that was measured and one a claim whose primary case was not, with the columns COLUMNS.

    built: ids the source has code for; absent: data sets that are not at hand. Raises KeyError if something was
    measured that no claim asks for.
    """
    claims = list(claims)
    cases: dict[str, list[Measured]] = {c.id: [] for c in claims}
    for one in measured:
        if one.claim not in cases:
            raise KeyError(f"{source}: measured {one.claim}, which data/claims/{source}.toml does not list")
        cases[one.claim].append(one)
    adjusted = _holm(claims, cases, preset)
    rows = []
    for claim in claims:
        reason = _untested(claim, cases[claim.id], preset, built, absent)
        if reason:
            rows.append(_row(source, claim, preset, claim.primary_case.get(preset, ""), "not tested", reason))
        if not _below(preset, claim):
            rows += [_judged(source, claim, one, preset, adjusted) for one in cases[claim.id]]
    return pd.DataFrame(rows, columns=COLUMNS)


def headline(verdicts: pd.DataFrame) -> pd.Series:
    """How many claims have each verdict: secondary cases do not count, and of a claim's exact cases the worst does."""
    firm = verdicts[~verdicts.reason.str.startswith("secondary")]
    order = ["contradicted", "inconclusive", "reproduced", "not tested"]
    worst = firm.groupby("claim").verdict.agg(lambda found: min(found, key=order.index))
    return worst.value_counts().reindex(VERDICTS, fill_value=0)


def _holm(claims: list[Claim], cases: Mapping[str, list[Measured]], preset: str) -> dict[str, float]:
    """Adjusted p of each primary case; one that was not tested counts as p = 1."""
    from statsmodels.stats.multitest import multipletests  # here, so that a machine that only runs needs none of it

    family = [c for c in claims if c.kind not in WITHOUT_INTERVAL and preset in c.primary_case]
    if not family:
        return {}
    p = []
    for claim in family:
        primary = [m for m in cases[claim.id] if m.case == claim.primary_case[preset]]
        p.append(primary[0].estimate.p if primary else 1.0)
    return dict(zip((c.id for c in family), multipletests(p, method="holm")[1], strict=True))


def _untested(claim: Claim, cases: list, preset: str, built: Collection[str], absent: Collection[str]) -> str:
    """Why the primary case of a claim has no verdict at this preset, or "" if it has one.

    A claim without an interval, or without a primary case here, has its verdict from any case.
    """
    if claim.id not in built and not cases:
        return "not built yet"
    if _below(preset, claim):
        return f"needs {claim.needs}"
    primary = claim.primary_case.get(preset, "")
    anyone = claim.kind in WITHOUT_INTERVAL or preset not in claim.primary_case
    if any(anyone or one.case == primary for one in cases):
        return ""
    data = primary.split(" ")[0]
    return f"{data} not at hand (make data)" if data in absent else f"needs {preset} (not run yet)"


def _below(preset: str, claim: Claim) -> bool:
    return PRESETS.index(preset) < PRESETS.index(claim.needs)


def _judged(source: str, claim: Claim, one: Measured, preset: str, adjusted: Mapping[str, float]) -> dict:
    estimate, verdict, reasons = one.estimate, claim.holds(one.estimate), []
    p = estimate.p
    if claim.kind not in WITHOUT_INTERVAL:
        if estimate.reason or estimate.n < FEWEST_UNITS:
            verdict = "inconclusive"
            reasons.append(estimate.reason or f"{estimate.n} units, fewer than {FEWEST_UNITS}")
        if one.case == claim.primary_case.get(preset):
            p = adjusted[claim.id]
            if verdict in ("reproduced", "contradicted") and not p < ALPHA:
                verdict = "inconclusive"
                reasons.append("Holm")
        else:
            reasons.insert(0, "secondary, not adjusted")
        if estimate.unit == "branch":
            reasons.append(f"within {estimate.seeds} seed{'s' if estimate.seeds != 1 else ''}")
    row = _row(source, claim, preset, one.case, verdict, "; ".join(reasons))
    numbers = {name: getattr(estimate, name) for name in ("value", "low", "high", "level", "n")}
    where = {"commit": one.commit, "device": one.device}
    return row | numbers | where | {"p": p, "control": _control(claim, one.control)}


def _control(claim: Claim, estimate) -> str:
    if estimate is None:
        return "none"
    if claim.kind not in WITHOUT_INTERVAL and (estimate.reason or estimate.n < FEWEST_UNITS):
        return "undecided"
    outcome = {"reproduced": "passes too", "contradicted": "fails as it should", "inconclusive": "undecided"}
    return outcome[claim.holds(estimate)]


def _row(source: str, claim: Claim, preset: str, case: str, verdict: str, reason: str) -> dict:
    known = {"id": "claim", "kind": "kind", "where": "where", "statement": "statement", "unit": "unit"}
    row = {column: getattr(claim, name) for name, column in known.items()}
    row |= {"source": source, "preset": preset, "case": case, "verdict": verdict, "reason": reason}
    nothing = dict.fromkeys(("value", "low", "high", "level", "p"), math.nan)
    return row | nothing | {"n": 0, "control": "none", "commit": "", "device": ""}
