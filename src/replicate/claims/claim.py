"""What the sources say, as rows of data: one `[[claim]]` of a TOML file per checkable sentence.

A claim names the experiment whose table decides it, the contrast that is taken of that table, and a
control: the same contrast with some fields changed. All names are checked when a file is loaded, so
a row that could not be judged is refused before anything runs.
"""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from replicate.errors import BadData, unknown

PRESETS = ("smoke", "cpu", "night", "gpu", "paper")
WITHOUT_INTERVAL = ("exact", "erratum")
LONGEST_LINE = 20_000  # characters; a contrast with many arms has a thousand


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something, got only white space")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]  # anchors, file names
Bound = Annotated[float, Field(allow_inf_nan=True)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Claim:
    """One checkable sentence: it holds when its contrast lies in [at_least, at_most].

    origin: "source" (its text says so), "paper" (only the full paper does), "ours". quote: the
    source's words. family: the table, figure or section named in `where` whose rows share one error
    rate. contrast: `name` and what that contrast takes; control, each of controls: fields of the
    contrast that it changes, and `what`, a name for readers. secondary: by name, further contrasts
    that are judged beside the primary one. primary: preset -> fields of the one case that is judged
    there. margin: where the band comes from. scope "setting": about its data set, net or number, so
    that a stand-in gives it no firm word. level: fields of the contrast that make it compare the
    same work done twice; where that ratio is not 1, nothing that was timed is firm. moved: field ->
    values that stand for a tuned rate one step of its grid lower and higher; where these change the
    word, it is not firm.
    """

    id: Identity
    where: Text
    statement: Text
    kind: Literal["exact", "ordering", "equivalence", "estimate", "erratum"]
    unit: Text
    needs: Literal["smoke", "cpu", "night", "gpu", "paper"]
    family: str = ""
    origin: Literal["source", "paper", "ours", ""] = ""
    quote: str = ""
    experiment: str | list[Text] = ""
    contrast: dict[str, Any] = Field(default_factory=dict)
    at_least: Bound = -math.inf
    at_most: Bound = math.inf
    margin: str = ""
    control: dict[str, Any] = Field(default_factory=dict)
    controls: dict[str, dict[str, Any]] = Field(default_factory=dict)
    secondary: dict[str, dict[str, Any]] = Field(default_factory=dict)
    primary: dict[Literal["smoke", "cpu", "night", "gpu", "paper"], dict[str, Any]] = Field(
        default_factory=dict
    )
    level: dict[str, Any] = Field(default_factory=dict)
    moved: dict[str, list[Any]] = Field(default_factory=dict)
    scope: Literal["general", "setting"] = "general"
    note: str = ""

    @model_validator(mode="after")
    def _can_be_judged(self):
        if (
            not (math.isfinite(self.at_least) or math.isfinite(self.at_most))
            or not self.at_least <= self.at_most
        ):
            raise ValueError(f"band must have an edge, got [{self.at_least}, {self.at_most}]")
        if self.family not in self.where:
            raise ValueError(f"family {self.family!r} must stand in where, {self.where!r}")
        if self.has_interval and not self.family.strip():
            raise ValueError("family must be named: the intervals of a family share one error rate")
        if len(set(self.experiments)) < len(self.experiments):
            raise ValueError(f"experiment must name each one once, got {list(self.experiments)}")
        if bool(self.experiment) != bool(self.contrast):
            raise ValueError("experiment and contrast belong together, got only one of them")
        for name in ("level", "moved"):
            if getattr(self, name) and not self.has_interval:
                raise ValueError(f"{name}: a number without interval has no use for it")
        return self

    @property
    def band(self) -> tuple[float, float]:
        """(at_least, at_most), infinite where open."""
        return self.at_least, self.at_most

    @property
    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments whose tables, one below the other, decide it."""
        names = [self.experiment] if isinstance(self.experiment, str) else self.experiment
        return tuple(name for name in names if name)

    @property
    def has_interval(self) -> bool:
        """Whether it is judged by an interval; exact claims and errata are judged by a number."""
        return self.kind not in WITHOUT_INTERVAL

    def position(self, low: float, high: float) -> str:
        """Where an interval lies beside the band: "inside", "outside" or "across"."""
        return position(self.band, low, high, self.has_interval)


def position(band: tuple[float, float], low: float, high: float, has_interval: bool = True) -> str:
    """Where [low, high] lies beside a band: "inside", "outside" or "across".

    Units that all lie on an edge, such as arms that agree to the last digit, are a tie and no win.
    """
    at_least, at_most = band
    if has_interval and low == high and low in band:
        return "across"
    if at_least <= low and high <= at_most:
        return "inside"
    return "outside" if high < at_least or low > at_most else "across"


def load(folder: Path, source: str) -> list[Claim]:
    """The claims of one source in the order of its pages, from `folder/<source>.toml`.

    Types, vocabulary and bands are checked; names of experiments, arms and metrics are `check`'s.
    Raises BadData, or BadParameter for an unknown source.
    """
    path = folder / f"{source}.toml"
    if not path.exists():
        raise unknown("source", source, (p.stem for p in folder.glob("*.toml")))
    claims = [_claim(path, row) for row in _rows(path)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise BadData(f"{path.name}: claim {claim.id} stands there more than once")
        seen.add(claim.id)
    return claims


def _rows(path: Path) -> list[dict]:
    try:
        text = path.read_text(encoding="utf-8")
        if max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
            # tomllib takes the square of a heading's depth.
            raise BadData(f"{path.name}: a line has more than {LONGEST_LINE} characters")
        rows = tomllib.loads(text)["claim"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise BadData(f"{path.name}: no list of [[claim]] in TOML: {_line(error)}") from None
    except RecursionError:
        raise BadData(f"{path.name}: values are nested too deeply") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadData(
            f"{path.name}: claim must be a list of tables, [[claim]], got {str(rows)[:60]}"
        )
    return rows


def _claim(path: Path, row: dict) -> Claim:
    for name in ("at_least", "at_most"):
        if isinstance(row.get(name), float) and not math.isfinite(row[name]):
            line = f"{name}: must be finite, got {row[name]}; an open band leaves it out"
            raise BadData(f"{path.name}: claim {str(row.get('id'))[:60]}: {line}")
    try:
        return Claim(**row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"] if step != "str")
        message = first["msg"].removeprefix("Value error, ")
        name = (
            row.get("id")
            if isinstance(row.get("id"), str)
            else f"with id {str(row.get('id'))[:60]!r}"
        )
        if first["type"] == "string_pattern_mismatch":
            message = f"must be letters, digits, dots and hyphens, got {str(first['input'])[:60]!r}"
            name = f"with id {str(row.get('id'))[:60]!r}"
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            message = "is no field of a claim"
        raise BadData(
            f"{path.name}: claim {name}: {f'{place}: ' if place else ''}{_line(message)}"
        ) from None
    except RecursionError:
        raise BadData(f"{path.name}: values are nested too deeply") from None


def _line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
