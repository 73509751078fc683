"""References to runs: whatever is written, the answer is an address or one short line."""

from pathlib import Path

import pytest

from evonas.search_space.errors import InputError
from evonas.store.address import Address
from evonas.store.database import Database, locate

BAD = (
    "",
    "\0",
    "run\0.db",
    "~",
    "~nobody/run",
    "x" * 5000,
    "/" + "y" * 300,
    "a/" * 3000,
    "sqlite:///a\0b.db",
    "sqlite:///" + "x" * 5000 + ".db",
    "sqlite:///" + "x/" * 5000 + "run.db",
    "sqlite+aiosqlite:///x.db",
    "sqlite+nonsense:///x.db",
    "postgresql+asyncpg://host/database",
    "postgresql://host:port/database",
    "postgresql://host:99999999999/database#run",
    "postgresql://host:-1/database",
    "postgresql://[::1/database",
    "postgresql://user:pass word@/",
    "postgresql://ho\0st/database#run",
    "postgresql://",
    "mysql://host/database",
    "http://host/run",
    "://",
    "x://",
    "sqlite:",
    "sqlite://///",
    "sqlite:///x.db#" + "r" * 5000,
    "\udcff",
    "a\nb",
)


@pytest.mark.parametrize("reference", BAD, ids=range(len(BAD)))
def test_what_is_no_reference_is_one_short_line(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(InputError) as refusal:
        Database(locate(reference)).reader()
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", [each for each in BAD if ":" in each], ids=lambda each: each[:20].encode().hex())
def test_a_configs_url_is_an_address_or_one_short_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        address = Address.of_url(url, "run")
    except InputError as refusal:
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 600
    else:
        assert address.run == "run"
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_no_number_says_what_a_url_looks_like() -> None:
    with pytest.raises(InputError, match=r"'postgresql://h:port/d': not a database URL; expected sqlite:///path.db or"):
        Address.of_url("postgresql://h:port/d", None)
