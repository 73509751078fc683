"""`python -m evonas` is `evonas`."""

from evonas.cli.main import main

if __name__ == "__main__":
    main()
