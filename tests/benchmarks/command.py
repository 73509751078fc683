"""The benchmarks as commands."""

import sys
from collections.abc import Callable

from evonas.search_space.errors import InputError


def in_one_line(main: Callable[[], None]) -> None:
    """Run a benchmark; bad input, such as a file of another config's results, is one line and exit code 2."""
    try:
        main()
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
