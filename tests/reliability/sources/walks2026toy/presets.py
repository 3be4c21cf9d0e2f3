"""The walks of a test at their presets."""

from replicate.sources.walks2026toy.settings import Settings

PAPER = Settings()
PRESETS = {"smoke": {"plane": Settings()}, "cpu": {"plane": Settings(pause=0.2)}}


def tiny(settings: Settings) -> Settings:
    return settings


def setting(entry: str, settings: dict) -> str:
    return "the source's"
