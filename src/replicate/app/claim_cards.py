"""A claim as a card of the report: what is said, the band, interval and control as a picture, and how to make it again."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from replicate import claims
from replicate.app import interval_picture, verdicts
from replicate.claims import Claim
from replicate.sources.protocol import Source

LEFT_OUT = "not tested"
BY_BADNESS = (LEFT_OUT, "confirmed", "reproduced", "inconclusive", "not confirmed", "contradicted")


def write_cards(
    source: Source,
    claim_list: Sequence[Claim],
    tables: Mapping[str, pd.DataFrame],
    places: Mapping[str, str],
) -> str:
    """The claims of a source as HTML, by family; each is an anchor by its id.

    tables: preset -> all rows judged there; a card shows the largest preset that tested the claim.
    places: experiment -> link to where its figure stands.
    """
    shown = pick_rows(tables)
    families: dict[str, list[Claim]] = {}
    for claim in claim_list:
        families.setdefault(claim.family or "ungrouped", []).append(claim)
    return "\n\n".join(
        _family(source, name, members, shown, places) for name, members in families.items()
    )


def pick_rows(tables: Mapping[str, pd.DataFrame]) -> dict[str, object]:
    """Claim -> its row at the largest preset that tested it, else at the largest that names it; of several exact cases
    the worst.
    """
    picked: dict[str, object] = {}
    for preset in (each for each in claims.PRESETS if each in tables):
        table = tables[preset]
        shown = table[(table.role == "primary") | (table.verdict == LEFT_OUT)]
        worst: dict[str, object] = {}
        for row in shown.itertuples(name="Row"):
            if row.claim not in worst or _badness(row) > _badness(worst[row.claim]):
                worst[row.claim] = row
        tested = {claim for claim, row in picked.items() if row.verdict != LEFT_OUT}
        picked |= {
            claim: row
            for claim, row in worst.items()
            if claim not in tested or row.verdict != LEFT_OUT
        }
    return picked


def _badness(row) -> int:
    """How much a case weighs beside others of its claim; a case that was not tested weighs least."""
    return BY_BADNESS.index(row.verdict)


def _family(
    source: Source,
    name: str,
    members: Sequence[Claim],
    shown: Mapping[str, object],
    places: Mapping[str, str],
) -> str:
    words = Counter(shown[each.id].verdict for each in members if each.id in shown)
    counts = ", ".join(f"{count} {word}" for word, count in words.most_common())
    inside = "\n".join(_card(source, each, shown.get(each.id), places) for each in members)
    return (
        f'<details class="family"><summary><strong>{html.escape(name)}</strong> <span>{html.escape(counts)}</span></summary>\n'
        f"{inside}\n</details>"
    )


def _card(source: Source, claim: Claim, row, places: Mapping[str, str]) -> str:
    verdict = LEFT_OUT if row is None else row.verdict
    value = "" if row is None or pd.isna(row.value) else f" {html.escape(verdicts.number(row))}"
    head = f"<code>{claim.id}</code> <strong>{html.escape(verdict)}</strong>{value}: {html.escape(claim.statement)}"
    parts = [f"<blockquote>{html.escape(claim.quote)}</blockquote>"] if claim.quote else []
    parts.append(f'<p class="where">{html.escape(claim.where)}</p>')
    if row is not None:
        parts += [interval_picture.draw(row), _facts(claim, row)]
    links = ", ".join(
        f'<a href="{places[name]}">{name}</a>' for name in claim.experiments if name in places
    )
    parts += [f"<p>Seen in the notebook: {links}</p>" if links else "", _again(source, claim, row)]
    body = "\n".join(part for part in parts if part)
    return (
        f'<details class="claim" id="{claim.id}" data-verdict="{html.escape(verdict)}"><summary>{head}</summary>\n'
        f"{body}\n</details>"
    )


def _facts(claim: Claim, row) -> str:
    """Band, control and provenance, a line each; what is not there has no line."""
    adjusted = (
        "" if pd.isna(row.p_adjusted) else f"p {row.p:.2g}, by Holm's method {row.p_adjusted:.2g}"
    )
    made = f"preset {row.preset}, commit {row.commit}, {row.device}" if row.commit else ""
    facts = {
        "why not firm" if row.verdict == "inconclusive" else "why": row.reason,
        "band": f"{verdicts.band(row)} {row.unit}",
        "where the band comes from": claim.margin,
        "control": verdicts.control(row),
        "setting": row.setting,
        "compared": row.contrast,
        "case": row.case,
        "seeds": _seeds(row),
        "chance": adjusted,
        "origin": {"source": "the source says so", "paper": "the full paper says so"}.get(
            row.origin, "ours"
        ),
        "made by": made,
    }
    lines = "".join(
        f"<dt>{name}</dt><dd>{html.escape(' '.join(str(text).split()))}</dd>"
        for name, text in facts.items()
        if str(text).strip()
    )
    return f"<dl>{lines}</dl>"


def _seeds(row) -> str:
    if pd.isna(row.n) or not row.n:
        return ""
    return f"{row.n:g}, {100 * row.level:g} % interval" if row.level > 0 else f"{row.n:g}"


def _again(source: Source, claim: Claim, row) -> str:
    """The commands that make the row again."""
    names = [name for name in claim.experiments if name in source]
    if row is None or not names:
        return ""
    preset = row.preset or claim.needs
    run = f"python -m replicate run {source.name} {' '.join(names)} --preset {preset}"
    judge = f"python -m replicate verdicts {source.name} --preset {preset} --json"
    return f'<pre tabindex="0">{html.escape(run)}\n{html.escape(judge)}</pre>'
