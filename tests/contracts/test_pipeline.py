"""The pipeline stays short, and its functions take few parameters: one context goes down a run."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "flrc"
PIPELINE = PACKAGE / "pipeline.py"


def test_the_pipeline_is_short() -> None:
    assert len(PIPELINE.read_text("utf-8").splitlines()) < 200


def test_functions_take_four_parameters_at_most() -> None:
    many = []
    for path in (PIPELINE, *(PACKAGE / "running").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
                if len([name for name in names if name != "self"]) > 4:
                    many.append(f"{path.name}: {node.name}({', '.join(names)})")
    assert many == []
