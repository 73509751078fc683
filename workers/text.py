"""Text on a device, and its fixed split by position. The test part stays sealed until a job's `judged_on` opens it."""

import gzip
import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from evonas.search_space.errors import InputError, first_line
from evonas.workers.protocol import Corpus, JudgedOn
from evonas.workers.task import Bytes, Windows

Text = UInt8[np.ndarray, "_"]


@lru_cache(maxsize=1)
def load_text(corpus: Corpus, device: str = "cpu", judged_on: JudgedOn = "validation") -> Bytes:
    """Read and split, once a process. Raises InputError where the text is absent or too short."""
    train, validation, test = split_text(corpus, read(corpus))
    judging = validation if judged_on == "validation" else test
    if judging is test and not corpus.test:
        raise InputError("text.test: 0; no bytes were set aside")
    train_part, judging_part = (
        Windows(torch.from_numpy(part.copy()).to(device), corpus.context) for part in (train, judging)
    )
    return Bytes(train_part, judging_part)


def split_text(corpus: Corpus, text: Text) -> tuple[Text, Text, Text]:
    """The first bytes train, those after them validate, and the last ones test."""
    wanted = (corpus.train, corpus.validation, corpus.test)
    if sum(wanted) > len(text):
        raise InputError(
            f"text: {' + '.join(map(str, wanted))} bytes wanted for the split, {len(text)} found in {corpus.source}"
        )
    ends = corpus.train, corpus.train + corpus.validation, len(text) - corpus.test
    return text[: ends[0]], text[ends[0] : ends[1]], text[ends[2] :]


def text_digest(corpus: Corpus) -> str:
    """Identifies which bytes are trained with and which validate: 16 hexadecimal digits. Raises as `load_text` does."""
    train, validation, _ = split_text(corpus, read(corpus))
    digest = hashlib.sha256()
    for part in (train, validation):
        digest.update(len(part).to_bytes(8, "big") + part.tobytes())
    return digest.hexdigest()[:16]


def has_test_bytes_of(judged: Corpus, searched: Corpus) -> bool:
    """Whether bytes of the test part of `judged` are among those that train or validate in `searched`."""
    if judged.source != searched.source or (
        judged.source == "folder" and folder_of_text(judged).resolve() != folder_of_text(searched).resolve()
    ):
        return False
    return len(read(judged)) - judged.test < searched.train + searched.validation


def read(corpus: Corpus) -> Text:
    """The whole text: the shipped one, or the files of a folder in the order of their names, a newline after each."""
    if corpus.source == "embedded":
        whole = gzip.decompress((files("evonas.workers") / "moby_dick" / "moby_dick.txt.gz").read_bytes())
        return np.frombuffer(whole, np.uint8)
    folder = folder_of_text(corpus)
    names = sorted(folder.glob("*.txt"), key=lambda path: path.name)
    if not names:
        raise InputError(f"text.path: no *.txt in '{folder}'")
    return np.frombuffer(b"".join(_file(path) + b"\n" for path in names), np.uint8)


def folder_of_text(corpus: Corpus) -> Path:
    """The folder of text files. Raises InputError for a `~` that is nobody's home."""
    try:
        return Path(corpus.path or "").expanduser()
    except RuntimeError as error:
        raise InputError(f"text.path: '{corpus.path}': {first_line(error)}") from None


def _file(path: Path) -> bytes:
    """A file's bytes, its lines ended by one newline each. Any encoding is a text of bytes."""
    try:
        return path.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise InputError(f"text.path: '{path}' cannot be read ({first_line(error)})") from None
