"""``python -m voxseq``."""

from voxseq.cli import main

main()
