"""What the loop remembers: its index of functions is a dictionary, and small."""

from hypothesis import given
from hypothesis import strategies as st

from evonas.history import Functions

STEPS = st.lists(st.tuples(st.integers(0, 40).map(str), st.integers(0, 9)), max_size=60)


@given(STEPS)
def test_functions_know_each_fingerprint_and_its_first_birth(
    steps: list[tuple[str, int]],
) -> None:
    functions, known = Functions(), dict[str, int]()
    for fingerprint, birth in steps:
        functions.add(fingerprint, inheritable=birth)
        known[fingerprint] = min(known.get(fingerprint) or birth, birth) if birth else known.get(fingerprint, 0)
    assert len(functions) == len(known)
    for fingerprint in map(str, range(41)):
        assert (fingerprint in functions) == (fingerprint in known)
        assert functions.inheritable(fingerprint) == (known.get(fingerprint) or None)


def test_functions_grow_and_stay_small() -> None:
    functions = Functions()
    for n in range(20_000):
        functions.add(f"f{n}", inheritable=n % 3 and n)
    assert len(functions) == 20_000
    assert all(functions.inheritable(f"f{n}") == (n if n % 3 else None) for n in range(20_000))
    assert "f20000" not in functions
    again = Functions()
    for n in reversed(range(20_000)):
        again.add(f"f{n}", inheritable=n % 3 and n)
    assert functions == again
    again.add("one more")
    assert functions != again
    size = functions._keys.itemsize * len(functions._keys) + functions._births.itemsize * len(functions._births)
    assert size <= 48 * 20_000  # bytes a key, just after it has grown
