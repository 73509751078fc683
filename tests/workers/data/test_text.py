"""Text: the shipped book, folders, and a split by position whose test part stays sealed."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evonas.search_space.errors import InputError
from evonas.workers.data import count_classes, has_test_part_of, split_digest
from evonas.workers.outcome import bits_per_byte
from evonas.workers.protocol import Corpus, Protocol, Recipe
from evonas.workers.task import Bytes, Windows
from evonas.workers.text import load_text, read, split_text
from tests.conftest import ROOT

SMALL: dict[str, Any] = {"train": 500, "validation": 100, "test": 90, "context": 8}


def book(tmp_path: Path, length: int = 1000) -> Corpus:
    """A folder whose every three bytes are their place."""
    text = b"".join((place // 3).to_bytes(3, "big")[place % 3].to_bytes() for place in range(length))
    (tmp_path / "b.txt").write_bytes(text[length // 2 :])
    (tmp_path / "a.txt").write_bytes(text[: length // 2])
    (tmp_path / "c.md").write_bytes(b"never read")
    return Corpus(source="folder", path=str(tmp_path), **SMALL)


def test_the_shipped_text_is_the_whole_book_and_nobodys_but_its_authors() -> None:
    text = read(Corpus()).tobytes().decode()
    assert len(text.encode()) > 1_200_000
    assert text.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.")
    assert text.endswith("only found another orphan.\n")
    assert "Gutenberg" not in text
    assert "\r" not in text
    assert "\n\n\n" not in text
    assert (ROOT / "workers" / "moby_dick" / "LICENSE").is_file()


def test_the_parts_are_contiguous_and_the_test_part_is_disjoint(tmp_path: Path) -> None:
    for corpus in (Corpus(), book(tmp_path)):
        text = read(corpus)
        train, validation, test = split_text(corpus, text)
        assert np.array_equal(np.concatenate([train, validation]), text[: corpus.train + corpus.validation])
        assert np.array_equal(test, text[-corpus.test :])
        assert len(train) + len(validation) + len(test) <= len(text)


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    corpus = book(tmp_path)
    files = [(tmp_path / name).read_bytes() for name in ("a.txt", "b.txt")]
    assert read(corpus).tobytes() == b"".join(each + b"\n" for each in files)
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    assert read(corpus).tobytes().startswith(b"one\ntwo\n\n")


def test_only_a_job_that_is_judged_on_it_opens_the_test_part(tmp_path: Path) -> None:
    corpus = book(tmp_path)
    _, validation, test = split_text(corpus, read(corpus))
    assert load_text(corpus).validation.text.tolist() == validation.tolist()
    assert load_text(corpus, judged_on="test").validation.text.tolist() == test.tolist()
    assert torch.equal(load_text(corpus).train.text, load_text(corpus, judged_on="test").train.text)
    with pytest.raises(InputError, match=r"text\.test: 0"):
        load_text(corpus.model_copy(update={"test": 0}), judged_on="test")


def test_what_trains_does_not_change_with_the_bytes_that_are_sealed(tmp_path: Path) -> None:
    corpus = book(tmp_path)
    before, digest = load_text(corpus), split_digest(corpus)
    whole = (tmp_path / "b.txt").read_bytes()
    (tmp_path / "b.txt").write_bytes(whole[:-60] + b"x" * 60)
    load_text.cache_clear()
    after = load_text(corpus)
    assert torch.equal(before.train.text, after.train.text)
    assert torch.equal(before.validation.text, after.validation.text)
    assert split_digest(corpus) == digest
    (tmp_path / "a.txt").write_bytes(b"x" * 500)
    assert split_digest(corpus) != digest


@pytest.mark.parametrize(
    ("judged", "expected"),
    [({}, False), ({"test": 402}, False), ({"test": 403}, True), ({"train": 400, "validation": 50, "test": 500}, True)],
)
def test_a_test_part_that_a_search_used_is_noticed(tmp_path: Path, judged: dict[str, int], expected: bool) -> None:
    searched = book(tmp_path)
    assert has_test_part_of(searched.model_copy(update=judged), searched) is expected
    assert not has_test_part_of(Corpus(), searched)


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "folder"}, "path: missing"),
        ({"path": "here"}, "is never read"),
        ({"train": 100}, "train: expected at least 193 bytes"),
        ({"validation": 64}, "validation: expected at least 65 bytes"),
        ({"test": 3}, "test: expected at least 65 bytes"),
    ],
)
def test_a_text_that_cannot_be_is_an_error_of_the_config(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Corpus(**options)


def test_a_text_that_is_absent_or_too_short_is_one_line(tmp_path: Path) -> None:
    for corpus, words in (
        (Corpus(source="folder", path=str(tmp_path / "nowhere")), r"text\.path: no \*\.txt in"),
        (Corpus(train=2_000_000), r"text: 2000000 \+ 40000 \+ 100000 bytes wanted for the split, 1206369 found"),
    ):
        for ask in (load_text, split_digest):
            with pytest.raises(InputError, match=words) as caught:
                ask(corpus)
            assert "\n" not in str(caught.value)


def test_a_default_text_leaves_no_trace_in_a_dump() -> None:
    raw = {"data": {}, "recipe": {}, "proxies": {"p": {"architecture": "vgg"}}, "gates": [], "execution": {}}
    plain = Protocol.model_validate_json(json.dumps(raw))
    assert "text" not in plain.model_dump(mode="json")
    other = Protocol.model_validate_json(json.dumps({**raw, "text": {"context": 32}}))
    assert Protocol.model_validate_json(other.model_dump_json()) == other
    assert other != plain


# --------------------------------------------------------------------------- examples


@pytest.fixture
def numbered() -> Bytes:
    """A text in which each byte is its place."""
    text = torch.arange(250, dtype=torch.uint8)
    return Bytes(Windows(text, 8), Windows(text, 8))


def test_windows_are_the_text_once_each_with_the_bytes_that_follow(numbered: Bytes) -> None:
    given, targets = numbered.train[: len(numbered.train)]
    assert given.flatten().tolist() == list(range(len(numbered.train) * 8))
    assert torch.equal(targets, given.long() + 1)
    assert len(numbered.train) == 249 // 8
    assert len(Windows(torch.zeros(17, dtype=torch.uint8), 8)) == 2


def test_an_epoch_shows_the_text_once_from_a_drawn_byte_on(numbered: Bytes) -> None:
    recipe = Recipe(batch_size=10)
    firsts = set()
    batches = numbered.batches(recipe, torch.Generator().manual_seed(0))
    for _ in range(60):
        epoch = list(islice(batches, 3))
        starts = [int(window[0]) for given, _ in epoch for window in given]
        assert len({start % 8 for start in starts}) == 1  # one grid
        assert len(set(starts)) == len(starts)
        assert starts != sorted(starts)
        assert all(torch.equal(given.long() + 1, targets) for given, targets in epoch)
        firsts.add(starts[0] % 8)
    assert firsts == set(range(8))


def test_batches_are_those_of_their_seed(numbered: Bytes) -> None:
    def drawn(seed: int) -> list[int]:
        batches = numbered.batches(Recipe(batch_size=4), torch.Generator().manual_seed(seed))
        return [int(given[0, 0]) for given, _ in islice(batches, 20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_fitness_is_the_geometric_mean_probability_of_the_right_byte(numbered: Bytes) -> None:
    given, targets = numbered.validation[: len(numbered.validation)]
    logits = torch.randn(*given.shape, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = logits.log_softmax(-1).gather(-1, targets[..., None]).flatten()
    fitness = numbered.scored(float(numbered.credit(logits, targets)))
    assert fitness == pytest.approx(float(right.mean().exp()), rel=1e-5)
    assert bits_per_byte(fitness) == pytest.approx(-float(right.mean()) / math.log(2), rel=1e-5)
    assert float(numbered.loss(logits, targets)) == pytest.approx(-float(right.mean()))


def test_guessing_is_8_bits_and_certainty_0(numbered: Bytes) -> None:
    _, targets = numbered.validation[: len(numbered.validation)]
    guess = numbered.scored(float(numbered.credit(torch.zeros(*targets.shape, 256), targets)))
    assert guess == pytest.approx(1 / 256)
    assert numbered.guessing == pytest.approx(math.log(256))
    assert bits_per_byte(guess) == pytest.approx(8)
    assert numbered.scored(0.0) == 1.0
    assert bits_per_byte(1.0) == 0.0
    assert bits_per_byte(0.0) == math.inf
    assert count_classes(Corpus()) == 256
