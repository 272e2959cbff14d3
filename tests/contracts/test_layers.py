"""Packages import only from those below them, as the picture in CONTRIBUTING shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flrc"


def layers(text: str) -> list[list[str]]:
    """The rooms of each layer, lowest first: the lines of the picture read from the bottom up.

    On a line rooms that stand side by side are separated by commas and do not know each other;
    ``a < b`` puts one above the other.
    """
    picture = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert picture is not None
    found: list[list[str]] = []
    for line in reversed(picture[1].strip().splitlines()):
        for layer in re.split(" < ", re.split(r"\s{2,}", line.strip())[0]):
            found.append([room.strip() for room in layer.split(",")])
    return found


def room_of(module: str, rooms: list[str]) -> str | None:
    """The innermost room that a module stands in; ``flrc`` itself is the room of none."""
    inside = [room for room in rooms if f"{module}.".startswith(f"flrc.{room}.")]
    return max(inside, key=len, default=None)


def imported(path: Path, modules: set[str]) -> set[str]:
    """Modules of ours that a file imports: at its head, in functions and for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flrc":
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in modules else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("flrc.")}
    return found


def climbs(package: Path, order: list[list[str]]) -> list[str]:
    """Every import that does not go down."""
    place = {room: level for level, rooms in enumerate(order) for room in rooms}
    files: dict[str, Path] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = []
    for module, path in files.items():
        own = room_of(module, list(place))
        if own is None:
            if module != package.name and path.name != "__init__.py":
                found.append(f"{module} stands in no room")
            continue
        for other in sorted(imported(path, set(files))):
            room = room_of(other, list(place))
            if room is None or (room != own and place[room] >= place[own]):
                found.append(f"{module} ({own}) imports {other} ({room})")
    return found


def test_no_import_climbs() -> None:
    order = layers((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert climbs(PACKAGE, order) == []


@pytest.mark.parametrize(
    "line",
    ["from flrc.high.module import x", "import flrc.high.module", "from flrc.high import module"],
)
@pytest.mark.parametrize("place", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_an_import_that_climbs_is_found(tmp_path: Path, line: str, place: str) -> None:
    package = tmp_path / "flrc"
    for room in ("low", "high"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text("", "utf-8")
    (package / "high" / "module.py").write_text("from flrc.low import module\n", "utf-8")
    (package / "low" / "module.py").write_text("", "utf-8")
    assert climbs(package, [["low"], ["high"]]) == []
    (package / "low" / "module.py").write_text(place.format(line) + "\n", "utf-8")
    (found,) = climbs(package, [["low"], ["high"]])
    assert "flrc.low.module (low) imports flrc.high.module (high)" in found


def test_few_doors() -> None:
    doors = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(doors) <= 8, doors
