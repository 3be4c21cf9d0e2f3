"""Verdicts: one row per case that was measured, and one per claim whose primary case was not.

An interval is held against a band that was fixed before the run. The word of a primary case is
`reproduced` only if the whole interval lies in the band and `contradicted` only if all of it lies
outside; it needs five units and, within its family, a p below ALPHA after Holm's correction.
Secondary cases and controls say where they lie and have no word. From a row alone its words can be
told again: `tell` does so.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from replicate.claims.claim import PRESETS, Claim
from replicate.claims.contrasts import Contrast
from replicate.claims.measure import Measured, describe
from replicate.claims.statistics import Estimate, holm
from replicate.errors import BadData

ALPHA = 0.05  # error rate of all firm words of one family together
FEWEST_UNITS = (
    5  # below it Student's interval says more about the spread of the units than about the claim
)
COLUMNS = (
    "source claim origin kind family role case setting where quote statement contrast at_least at_most margin preset "
    "verdict reason value low high level unit n p p_adjusted control control_value control_low control_high control_n "
    "control_verdict commit device"
).split()
NUMBERS = (
    "at_least at_most value low high level n p p_adjusted control_value control_low control_high control_n"
).split()
WORDS = ("reproduced", "contradicted", "inconclusive", "not tested")
OF_ERRATA = ("confirmed", "not confirmed", "not tested")
ROLES = ("primary", "secondary", "control")
CONTROL_WORDS = {"inside": "passes too", "outside": "fails", "across": "undecided"}
UNDECIDED = "not significant after Holm's correction"


def judge(
    source: str,
    claims: Iterable[Claim],
    measured: Iterable[Measured],
    preset: str,
    untested: Callable[[Claim], str] = lambda claim: "",
) -> pd.DataFrame:
    """The rows of one source at one preset, with the columns COLUMNS.

    untested: why the primary case of a claim could not be measured, beyond what the claim itself
    says; "" if nothing is known. Raises KeyError if something was measured that no claim asks for.
    """
    claims = list(claims)
    cases: dict[str, list[Measured]] = {claim.id: [] for claim in claims}
    for each in measured:
        if each.claim not in cases:
            raise KeyError(f"{source}: measured {each.claim}, which is not a claim of it")
        cases[each.claim].append(each)
    adjusted = _holm(claims, cases, preset)
    rows = []
    for claim in claims:
        if reason := _why_untested(claim, cases[claim.id], preset, untested):
            rows.append(_row(source, claim, preset) | {"verdict": "not tested", "reason": reason})
        if not _below(preset, claim):
            rows += [_judge_case(source, claim, each, preset, adjusted) for each in cases[claim.id]]
    return pd.DataFrame(rows, columns=COLUMNS)


def tell(row: Mapping) -> tuple[str, str]:
    """(verdict, control_verdict) from the numbers of a row alone, as `judge` gives them."""
    if row["verdict"] == "not tested":
        return "not tested", row["control_verdict"]
    position = _position(row, row["low"], row["high"])
    exact = row["kind"] in ("exact", "erratum")
    has_control = row["control"] != ""
    few = not exact and (row["control_n"] < FEWEST_UNITS)
    against = _position(row, row["control_low"], row["control_high"])
    control = ("undecided" if few else CONTROL_WORDS[against]) if has_control else ""
    if row["kind"] == "erratum":
        return {"inside": "confirmed"}.get(position, "not confirmed"), control
    if row["role"] != "primary":
        return position, control
    word = {"inside": "reproduced", "outside": "contradicted", "across": "inconclusive"}[position]
    firm = exact or (row["n"] >= FEWEST_UNITS and row["p_adjusted"] < ALPHA)
    return word if firm else "inconclusive", control


def primary_rows(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Tested rows that have a word: primary cases, exact claims and errata."""
    return verdicts[(verdicts.role == "primary") & (verdicts.verdict != "not tested")]


def headline(verdicts: pd.DataFrame) -> pd.DataFrame:
    """How many claims have each word, counted by origin and kind; of a claim with several exact
    cases the worst counts.

    Index: group ("claims of the source", "exact statements of the source", "errata", "ours");
    columns: HEADLINE, where `control fails` says of how many of the reproduced the control fails,
    as it should.
    """
    from_the_worst = [
        "contradicted",
        "not confirmed",
        "inconclusive",
        "reproduced",
        "confirmed",
        "not tested",
    ]
    counted = verdicts[(verdicts.role == "primary") | (verdicts.verdict == "not tested")]
    counted = counted.assign(
        group=counted.apply(_group, axis=1), place=counted.verdict.map(from_the_worst.index)
    )
    worst = counted.sort_values("place", kind="stable").drop_duplicates("claim")
    table = worst.groupby("group").verdict.value_counts().unstack(fill_value=0)
    table = table.reindex(index=GROUPS, columns=HEADLINE, fill_value=0)
    survives = worst[worst.verdict.isin(["reproduced"]) & (worst.control_verdict == "fails")]
    return table.assign(
        **{"control fails": survives.groupby("group").size().reindex(GROUPS, fill_value=0)}
    )


GROUPS = ("claims of the source", "exact statements of the source", "errata", "ours")
HEADLINE = ("reproduced", "control fails", "contradicted", "inconclusive", "confirmed",
            "not confirmed", "not tested")  # fmt: skip


def _group(row: pd.Series) -> str:
    if row["kind"] == "erratum":
        return "errata"
    if row["origin"] == "ours":
        return "ours"
    return "exact statements of the source" if row["kind"] == "exact" else "claims of the source"


def _position(row: Mapping, low: float, high: float) -> str:
    if row["at_least"] <= low and high <= row["at_most"]:
        return "inside"
    return "outside" if high < row["at_least"] or low > row["at_most"] else "across"


def _is_primary(claim: Claim, case: Measured, preset: str) -> bool:
    """Whether a case is the one that the preset judges; of exact claims and errata every case is."""
    if case.role != "primary":
        return False
    if not claim.has_interval:
        return True
    wanted = claim.primary.get(preset)
    return wanted is not None and all(
        case.case.get(name) == value for name, value in wanted.items()
    )


def _holm(
    claims: list[Claim], cases: Mapping[str, list[Measured]], preset: str
) -> dict[str, float]:
    """Adjusted p of each primary case within its family; one that was not tested counts as p = 1."""
    families: dict[str, dict[str, float]] = {}
    for claim in claims:
        if claim.has_interval and preset in claim.primary:
            primary = [case for case in cases[claim.id] if _is_primary(claim, case, preset)]
            if len(primary) > 1:
                labels = ", ".join(case.label for case in primary)
                line = f"primary.{preset} fits {len(primary)} cases ({labels}); name more of their fields"
                raise BadData(f"claim {claim.id}: {line}")
            p = primary[0].estimate.p if primary else 1.0
            families.setdefault(claim.family, {})[claim.id] = 1.0 if math.isnan(p) else p
    adjusted: dict[str, float] = {}
    for family in families.values():
        adjusted |= dict(zip(family, holm(list(family.values())), strict=True))
    return adjusted


def _why_untested(
    claim: Claim, cases: list[Measured], preset: str, untested: Callable[[Claim], str]
) -> str:
    """Why the primary case of a claim has no verdict at this preset, or "" if it has one."""
    if not claim.experiments:
        return "no experiment"
    if _below(preset, claim):
        return f"needs preset {claim.needs}"
    if any(_is_primary(claim, case, preset) for case in cases):
        return ""
    if claim.has_interval and preset not in claim.primary:
        return f"no primary case at preset {preset}"
    return untested(claim) or f"not run at preset {preset}"


def _below(preset: str, claim: Claim) -> bool:
    return PRESETS.index(preset) < PRESETS.index(claim.needs)


def _judge_case(
    source: str, claim: Claim, case: Measured, preset: str, adjusted: Mapping[str, float]
) -> dict:
    role = case.role if case.role != "primary" or _is_primary(claim, case, preset) else "secondary"
    row = _row(source, claim, preset) | _numbers(case.estimate) | _control(case)
    row |= {"role": role, "case": case.label, "setting": case.setting, "contrast": case.contrast}
    row |= {"commit": case.commit, "device": case.device}
    if role == "primary" and claim.has_interval:
        row["p_adjusted"] = adjusted[claim.id]
    row["verdict"], row["control_verdict"] = tell(row)
    return row | {"reason": _reason(claim, case.estimate, row)}


def _reason(claim: Claim, estimate: Estimate, row: Mapping) -> str:
    """Why a row is not firm, in plain words; "" where there is nothing to say."""
    if not claim.has_interval:
        return ""
    reasons = [estimate.reason] if estimate.reason else []
    if estimate.n < FEWEST_UNITS:
        reasons.append(f"{estimate.n} units, fewer than {FEWEST_UNITS}")
    if (
        row["role"] == "primary"
        and not reasons
        and not estimate.hint
        and row["p_adjusted"] >= ALPHA
    ):
        reasons.append(f"{UNDECIDED} (p = {row['p_adjusted']:.2g})")
    reasons += [estimate.hint] if estimate.hint else []
    if estimate.unit == "branch":
        reasons.append(
            f"the unit is the branch, within {estimate.seeds} seed{'s' if estimate.seeds != 1 else ''}"
        )
    return "; ".join(reasons)


def _numbers(estimate: Estimate) -> dict:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "level", "n", "p")}


def _control(case: Measured) -> dict:
    if case.control is None:
        return {}
    control = case.control
    # A control from which nothing can be drawn has no bounds, so that its row alone says so.
    low, high = (-math.inf, math.inf) if control.reason else (control.low, control.high)
    return {"control": case.controlled, "control_value": control.value, "control_low": low, "control_high": high,
            "control_n": control.n}  # fmt: skip


def _row(source: str, claim: Claim, preset: str) -> dict:
    """What is known of a claim before anything is measured."""
    row = dict.fromkeys(COLUMNS, "")
    row |= dict.fromkeys(NUMBERS, math.nan) | {"n": 0, "control_n": 0}
    same = (
        "origin",
        "kind",
        "family",
        "where",
        "quote",
        "statement",
        "at_least",
        "at_most",
        "margin",
        "unit",
    )
    row |= {name: getattr(claim, name) for name in same}
    contrast = describe(Contrast.read(claim.contrast)) if claim.contrast else ""
    primary = " ".join(str(value) for value in claim.primary.get(preset, {}).values())
    return row | {"source": source, "claim": claim.id, "preset": preset, "role": "primary", "case": primary,
                  "contrast": contrast}  # fmt: skip
