"""Copies what stands at the top of the repository into the package; all else: pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ("conf/**/*.yaml", "experiments/*/table.yaml", "experiments/*/expected.yaml")
"""The configuration, and the layouts of the studies without their records."""


class BuildWithConfiguration(build_py):
    """Adds ``flrc/conf`` and ``flrc/experiments``; an editable install reads the originals."""

    def copies(self) -> dict[str, str]:
        """File in the build -> file in the repository."""
        if self.editable_mode:
            return {}
        files = [path.relative_to(ROOT) for glob in SHIPPED for path in sorted(ROOT.glob(glob))]
        return {str(Path(self.build_lib, "flrc", file)): str(file) for file in files}

    def run(self) -> None:
        """Build, and add the copies."""
        super().run()
        for target, source in self.copies().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file of the build."""
        return [*super().get_outputs(include_bytecode), *self.copies()]

    def get_output_mapping(self) -> dict[str, str]:
        """Every file of the build with its source."""
        return {**super().get_output_mapping(), **self.copies()}

    def get_source_files(self) -> list[str]:
        """Every source, for a source distribution."""
        return [*super().get_source_files(), *self.copies().values()]


setup(cmdclass={"build_py": BuildWithConfiguration})
