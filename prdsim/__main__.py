"""``python -m prdsim``: the command line."""

from prdsim.cli import main

if __name__ == "__main__":
    main()
