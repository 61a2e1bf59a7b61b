"""`python -m backups.cli`."""

from backups.cli import main

main()
