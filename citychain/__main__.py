"""``python -m citychain`` is the command ``citychain``."""

from citychain.cli import main

if __name__ == "__main__":
    main()
