"""A Content-Security-Policy in every page of the report: nothing from outside, no script but the report's own."""

import base64
import hashlib
import re
from pathlib import Path

INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
CHARSET = re.compile(r"<meta charset=[^>]*>", re.IGNORECASE)
# Style attributes stand in pandas' tables and in highlighted code; a style cannot fetch anything here either.
POLICY_RULES = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none'"
)


def seal(folder: Path) -> None:
    """Write the policy into every page below `folder`; the theme's own files in `_static` are none."""
    for page in set(folder.rglob("*.html")) - set((folder / "_static").rglob("*")):
        page.write_text(with_policy(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_policy(page: str) -> str:
    """The page with its policy, which allows the scripts that stand in it now by their hashes."""
    scripts = dict.fromkeys(INLINE_SCRIPT.findall(page))
    hashes = "".join(f" 'sha256-{_digest(script)}'" for script in scripts)
    rule = f'<meta http-equiv="Content-Security-Policy" content="{POLICY_RULES.format(hashes=hashes)}">'
    return CHARSET.sub(lambda found: f"{found[0]}\n{rule}", page, count=1)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
