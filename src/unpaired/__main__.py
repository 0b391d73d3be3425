"""``python -m unpaired``."""

from unpaired.cli import main

main()
