"""Command line: ``python run.py -m method=flrc,svdllm rate=0.2,0.3``."""

from __future__ import annotations

import sys
from pathlib import Path

from flrc.sweeps import command_line
from flrc.sweeps.hydra_main import hydra_main

CONF = str(Path(__file__).resolve().parent / "conf")
main = hydra_main(CONF)

if __name__ == "__main__":
    sys.exit(command_line.sweep(main, CONF, sys.argv[1:]))
