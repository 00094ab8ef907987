"""``python -m gitserver``: the same as the command ``gitserver``."""

from gitserver.cli.main import main

if __name__ == "__main__":
    main()
