"""The set of functions that a search has met, by fingerprint, in a few bytes each."""

from array import array
from hashlib import blake2b


class Functions:
    """Fingerprint -> the first birth whose outcome may be inherited, 0 while there is none; and the digests met so far.

    Open addressing in two arrays takes 24 to 48 bytes a key, where a dict takes 110. A key is kept as 64 bits: among
    two million, the probability of any collision is 1e-7.
    """

    def __init__(self) -> None:
        self._keys, self._births = array("Q", bytes(8 << 10)), array("i", bytes(4 << 10))
        self._count = 0

    def __contains__(self, fingerprint: str) -> bool:
        return self._keys[self._place(_key(fingerprint))] != 0

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Functions) and self._items() == other._items()

    def inheritable(self, fingerprint: str) -> int | None:
        return self._births[self._place(_key(fingerprint))] or None

    def add(self, fingerprint: str, inheritable: int = 0) -> None:
        """Add a fingerprint; of several births whose outcome may be inherited the first counts."""
        key = _key(fingerprint)
        place = self._place(key)
        if not self._keys[place]:
            self._keys[place] = key
            self._count += 1
        if inheritable:
            self._births[place] = min(self._births[place] or inheritable, inheritable)
        if 2 * self._count > len(self._keys):
            self._grow()

    def _place(self, key: int) -> int:
        keys = self._keys
        mask = len(keys) - 1
        place = key & mask
        while keys[place] not in (0, key):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        keys, births, size = self._keys, self._births, 2 * len(self._keys)
        self._keys, self._births = array("Q", bytes(8 * size)), array("i", bytes(4 * size))
        for key, birth in zip(keys, births, strict=True):
            if key:
                place = self._place(key)
                self._keys[place], self._births[place] = key, birth

    def _items(self) -> set[tuple[int, int]]:
        return {(key, birth) for key, birth in zip(self._keys, self._births, strict=True) if key}


def _key(fingerprint: str) -> int:
    return int.from_bytes(blake2b(fingerprint.encode(), digest_size=8).digest()) or 1
