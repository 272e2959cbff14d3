"""Command line: ``python run.py -m method=flrc,svdllm rate=0.2,0.3``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from flrc.config import register
from flrc.sweeps import command_line

register()
CONF = str(Path(__file__).resolve().parent / "conf")


@hydra.main(version_base="1.3", config_path=CONF, config_name="config")
def main(config: DictConfig) -> None:
    """One job: validate, run, note how it ended."""
    command_line.job(lambda: OmegaConf.to_object(config))


if __name__ == "__main__":
    sys.exit(command_line.sweep(main, CONF, sys.argv[1:]))
