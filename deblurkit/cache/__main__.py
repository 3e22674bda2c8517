"""``python -m deblurkit.cache FOLDER``: take away the caches in a folder that no run holds any more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deblurkit.cache.folder import remove_remains


def main(roots: Sequence[str]) -> None:
    """Remove this user's dead caches in each of the folders, and say which these were."""
    for root in roots:
        for folder in remove_remains(Path(root)):
            print(f"removed {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
