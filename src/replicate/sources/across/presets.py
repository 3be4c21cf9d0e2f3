"""One set of numbers, the same at every preset: what is computed is exact."""

from collections.abc import Mapping

from replicate.sources.across.settings import Settings
from replicate.sources.protocol import THE_SOURCES

PAPER = Settings()
ALGEBRA = {"quadratic": PAPER}
PRESETS: dict[str, dict[str, Settings]] = {
    preset: dict(ALGEBRA) for preset in ("smoke", "cpu", "night", "gpu", "paper")
}


def tiny(settings: Settings) -> Settings:
    """The settings as they are: every line runs within seconds."""
    return settings


def setting(entry: str, settings: Mapping[str, object]) -> str:
    """Nothing stands in for anything: a quadratic is what these statements are about."""
    return THE_SOURCES
