"""``modeling_flrc.py``: one file that loads a checkpoint where this package is not installed.

It is the concatenation of :data:`MODULES`, so each layer has one definition. These modules share
one namespace: no two of them may define the same name, they import each other's names with
``from ... import ...``, and they import no other module of this package.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

NAME = "modeling_flrc.py"
"""``transformers`` expects this spelling."""
MODULES = (
    "flrc.errors",
    "flrc.core.dtypes",
    "flrc.core.jsonfile",
    "flrc.plans.phase",
    "flrc.plans.rank_plan",
    "flrc.plans.run_plans",
    "flrc.models.layers.rows",
    "flrc.models.layers.int8_rows",
    "flrc.models.layers.dense_linear",
    "flrc.models.layers.shared_product",
    "flrc.models.layers.factored_linear",
    "flrc.models.layers.low_rank_linear",
    "flrc.models.layers.pivoted_linear",
    "flrc.models.layers.separate_linear",
    "flrc.models.layers.compressed_layers",
    "flrc.models.layers.switching",
    "flrc.models.checkpoints.manifest",
    "flrc.models.checkpoints.layer_specs",
    "flrc.models.checkpoints.assembly",
    "flrc.models.checkpoints.device_placement",
    "flrc.models.checkpoints.generation_settings",
    "flrc.models.checkpoints.huggingface",
)
"""In the order of their text; each imports only from those before it. The docstring of each names
``modeling_flrc.py``."""
HEAD = '''"""Loads a model that flrc compressed: AutoModelForCausalLM with trust_remote_code=True.

Written by flrc from its own modules; not used where flrc is registered. Licence: Apache-2.0.
"""

from __future__ import annotations
'''


@lru_cache(maxsize=1)
def source() -> str:
    """The text of the file.

    Raises:
        ValueError: If the modules break one of the rules above.
    """
    imports: set[str] = set()
    parts: list[str] = []
    defined: dict[str, str] = {}
    for module in MODULES:
        text = _path(module).read_text("utf-8")
        if NAME not in (ast.get_docstring(ast.parse(text)) or ""):
            raise ValueError(f"the docstring of {module} does not name {NAME}")
        kept: list[str] = []
        for node in _statements(text):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= _kept_imports(node, set(defined.values()), module)
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
    return Path(str(spec.origin))


def _statements(text: str) -> Iterator[ast.stmt]:
    """The statements of a module without its docstring and its imports for type checking."""
    for k, node in enumerate(ast.parse(text).body):
        docstring = k == 0 and isinstance(node, ast.Expr)
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not docstring and not typing:
            yield node


def _kept_imports(node: ast.Import | ast.ImportFrom, earlier: set[str], module: str) -> set[str]:
    """One line per name; imports that only annotations need are left out."""
    if isinstance(node, ast.Import):
        return {f"import {ast.unparse(name)}" for name in node.names}
    package = str(node.module).split(".")[0]
    if package == "flrc" and node.module not in earlier:
        raise ValueError(f"{module} imports {node.module}, which does not come before it")
    if package in ("__future__", "flrc", "jaxtyping"):
        return set()
    names = [name for name in node.names if name.name != "TYPE_CHECKING"]
    return {f"from {node.module} import {ast.unparse(name)}" for name in names}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _text_of(text: str, node: ast.stmt) -> str:
    """The statement's source, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
