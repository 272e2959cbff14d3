"""Docstrings as the site shows them: the roles of Sphinx become code (``extensions`` of griffe)."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`~?(?:[^`]*?\.)?(?P<name>[^`.]+)`")


class PlainRoles(griffe.Extension):
    """Replaces ``:func:`~flrc.load``` by the name in code."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\g<name>`", obj.docstring.value)
