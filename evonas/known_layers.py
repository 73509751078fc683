"""Candidates that repeat a known layer, and how that is said."""

from dataclasses import replace

from evonas.search_space import fingerprint
from evonas.search_space.catalog.known import Known, known
from evonas.search_space.fingerprint import Probed, probe
from evonas.search_space.graph import Graph
from evonas.store.reader import Reader
from evonas.store.records import Record


def known_layer(reader: Reader, record: Record) -> Known:
    """The known layer that a candidate repeats, by its stored keys; by new ones where an older version computed them in
    another way."""
    if reader.versions.get("fingerprint") == str(fingerprint.VERSION):
        return known(Probed(record.fingerprint, record.family, 1.0))
    return known(probe(Graph.parse(record.formula)))


def named(reader: Reader, record: Record) -> Record:
    """A record that says which known layer it repeats."""
    layer = known_layer(reader, record)
    return replace(record, same_as=layer.same_as, affine_of=layer.affine_of)


def known_as(same_as: str | None, affine_of: str | None) -> str:
    """The cell of a table."""
    return same_as or (f"affine of {affine_of}" if affine_of else "")


def remark(same_as: str | None, affine_of: str | None) -> str:
    """The end of a sentence; empty for a layer that repeats none."""
    if same_as:
        return f"the same function as {same_as}, a known layer"
    return f"equal to {affine_of}, a known layer, up to a scale and a shift of each channel" if affine_of else ""
