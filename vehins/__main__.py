"""``python -m vehins`` is the command ``vehins``."""

from vehins.cli import main

main()
