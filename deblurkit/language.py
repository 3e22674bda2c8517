"""Which language a person reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]


def resolve_language(setting: str, *, environment: Mapping[str, str] = os.environ) -> Language:
    """Return ``en`` or ``zh``: the setting, or for ``auto`` what the locale says."""
    if setting == "auto":
        setting = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "zh" if setting.startswith("zh") else "en"
