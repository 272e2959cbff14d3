"""One file that holds all a checkpoint needs to be loaded where this package is not installed.

It is made of this package's own modules, so that there is one definition of every layer.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

NAME = "modeling_flrc.py"
"""As ``transformers`` wants it: modeling with one l."""
ROOT = "flrc.models.checkpoints.huggingface"
HEAD = '''"""Loads a model that flrc compressed: AutoModelForCausalLM with trust_remote_code=True.

Written by flrc from its own modules; where flrc is imported it is not used. Licence: Apache-2.0.
"""

from __future__ import annotations
'''


@lru_cache(maxsize=1)
def source() -> str:
    """The text of the file: the modules that :data:`ROOT` stands on, in order, and itself.

    Raises:
        ValueError: If two modules define the same name, or one imports another as a whole.
    """
    imports: set[str] = set()
    parts: list[str] = []
    defined: dict[str, str] = {}
    for module in _in_order(ROOT, []):
        text = _path(module).read_text("utf-8")
        kept: list[str] = []
        for node in _statements(text):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= _kept_imports(node)
                continue
            for name in _defined(node):
                if defined.setdefault(name, module) != module:
                    raise ValueError(f"{defined[name]} and {module} both define {name}")
            kept.append(_text_of(text, node))
        parts.append("\n\n\n".join([f"# From {module}.", *kept]))
    return "\n\n\n".join(["\n".join([HEAD, *sorted(imports)]), *parts]) + "\n"


def _path(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def _in_order(module: str, known: list[str]) -> list[str]:
    """The modules of this package that one needs when it is loaded, each before who needs it."""
    if module not in known:
        for node in _statements(_path(module).read_text("utf-8")):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "flrc":
                if _path(str(node.module)).name == "__init__.py":
                    raise ValueError(f"{module} imports a module of {node.module} as a whole")
                _in_order(str(node.module), known)
        known.append(module)
    return known


def _statements(text: str) -> Iterator[ast.stmt]:
    """Of a module; neither its docstring nor what is there for type checkers alone."""
    for k, node in enumerate(ast.parse(text).body):
        docstring = k == 0 and isinstance(node, ast.Expr)
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not docstring and not typing:
            yield node


def _kept_imports(node: ast.Import | ast.ImportFrom) -> set[str]:
    """One line a name; what only annotations read is left out, as they stay text."""
    if isinstance(node, ast.Import):
        return {f"import {ast.unparse(name)}" for name in node.names}
    if str(node.module).split(".")[0] in ("__future__", "flrc", "jaxtyping"):
        return set()
    names = [name for name in node.names if name.name != "TYPE_CHECKING"]
    return {f"from {node.module} import {ast.unparse(name)}" for name in names}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _text_of(text: str, node: ast.stmt) -> str:
    """As it stands in its module, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
