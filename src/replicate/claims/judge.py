"""Verdicts: one row per case that was measured, and one per claim whose primary case was not.

An interval is held against a band that was fixed before the run. The word of a primary case is
`reproduced` only if the whole interval lies in the band and `contradicted` only if all of it lies
outside; it needs five seeds, all that its preset plans, no obstacle (`measure` finds them) and,
within its family, a p below ALPHA after Holm's correction. Secondary cases and controls say where
they lie and have no word. From a row alone its words can be told again: `tell` does so.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from replicate.claims.claim import PRESETS, WITHOUT_INTERVAL, Claim, position
from replicate.claims.contrasts import Contrast
from replicate.claims.measure import FEWEST_SEEDS, Measured, describe
from replicate.claims.statistics import Estimate, holm, is_skewed
from replicate.errors import BadData

ALPHA = 0.05  # error rate of all firm words of one family together
COLUMNS = (
    "source claim origin kind family role case dataset cell setting where quote statement contrast at_least at_most "
    "margin preset verdict reason obstacle value low high level unit n p p_adjusted skewness control control_value "
    "control_low control_high control_n control_verdict commit device"
).split()
NUMBERS = (
    "at_least at_most value low high level n p p_adjusted skewness control_value control_low control_high control_n"
).split()
OF_AN_ESTIMATE = ("value", "low", "high", "level", "n", "p", "skewness")
WORDS = ("reproduced", "contradicted", "inconclusive", "not tested")
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
    place = _place(row, row["low"], row["high"])
    exact = row["kind"] in WITHOUT_INTERVAL
    few = not exact and (row["control_n"] < FEWEST_SEEDS)
    against = _place(row, row["control_low"], row["control_high"])
    control = ("undecided" if few else CONTROL_WORDS[against]) if row["control"] != "" else ""
    if row["kind"] == "erratum":
        return {"inside": "confirmed"}.get(place, "not confirmed"), control
    if row["role"] != "primary":
        return place, control
    word = {"inside": "reproduced", "outside": "contradicted", "across": "inconclusive"}[place]
    decided = row["n"] >= FEWEST_SEEDS and row["p_adjusted"] < ALPHA and row["obstacle"] == ""
    return word if exact or decided else "inconclusive", control


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


def _place(row: Mapping, low: float, high: float) -> str:
    has_interval = row["kind"] not in WITHOUT_INTERVAL
    return position((row["at_least"], row["at_most"]), low, high, has_interval)


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
    dataset = case.case.get("dataset")  # a list where a contrast runs along data sets
    row |= {"dataset": dataset if isinstance(dataset, str) else "", "cell": case.cell}
    row |= {"commit": case.commit, "device": case.device, "obstacle": "; ".join(case.obstacles)}
    row |= {"at_least": case.band[0], "at_most": case.band[1]} if case.band else {}
    row |= {"unit": case.unit} if case.unit else {}
    if role == "primary" and claim.has_interval:
        row["p_adjusted"] = adjusted[claim.id]
    row["verdict"], row["control_verdict"] = tell(row)
    return row | {"reason": _reason(claim, case.estimate, row)}


def _reason(claim: Claim, estimate: Estimate, row: Mapping) -> str:
    """Why a row is not firm, in plain words; "" where there is nothing to say."""
    if not claim.has_interval:
        return ""
    reasons = [estimate.reason] if estimate.reason else []
    if estimate.n < FEWEST_SEEDS:
        reasons.append(f"{estimate.n} seeds, fewer than {FEWEST_SEEDS}")
    reasons += [row["obstacle"]] if row["obstacle"] else []
    unsure = row["role"] == "primary" and row["p_adjusted"] >= ALPHA
    if unsure and not reasons and not estimate.hint:
        reasons.append(f"{UNDECIDED} (p = {row['p_adjusted']:.2g})")
    reasons += [estimate.hint] if estimate.hint else []
    if is_skewed(estimate.skewness, estimate.n):
        reasons.append(f"the seeds are skewed ({estimate.skewness:.2g})")
    return "; ".join(reasons)


def _numbers(estimate: Estimate) -> dict:
    return {name: getattr(estimate, name) for name in OF_AN_ESTIMATE}


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
