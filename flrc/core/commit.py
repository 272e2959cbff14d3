"""Which commit the running code is."""

from __future__ import annotations

import subprocess
from typing import Any

from flrc.core.shipped import PACKAGE, in_checkout


def git_state() -> dict[str, Any]:
    """Commit of the running code, and whether files were modified; None outside a checkout."""
    if not in_checkout():  # the repository around it, if there is one, is another project's
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=PACKAGE,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # Records that a study keeps in the checkout are results, not code.
    code = (":/", ":(exclude,top)experiments")
    status = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
