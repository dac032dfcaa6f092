"""``python -m voxseq``."""

from voxseq.cli.main import main

main()
