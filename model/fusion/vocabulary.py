"""Added-token rectification: rows of the word embeddings are merged by token, not by number.

Models trained apart may have added different tokens, or the same ones in another order, so that row 151,700 of two
matrices can mean two words. The result has the base's ids; tokens that the base lacks come after them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from model.weights import WeightsError

TOKENIZER = "tokenizer.json"
WORD_ROWS = ("model.embed_tokens.weight", "lm_head.weight")
"""The tensors with one row per token."""

NO_ROW = -1


@dataclass(frozen=True, slots=True)
class Alignment:
    """`sources[i][r]` is the row of input i that holds the token of the result's row r, or NO_ROW.

    `tokenizer` is the result's where the base's lacks tokens, else None.
    """

    sources: list[Tensor]
    tokenizer: Tokenizer | None

    @property
    def num_rows(self) -> int:
        return len(self.sources[0])

    def fixed(self, rows: slice) -> Tensor:
        """Where nothing is merged: rows of no token, and tokens that only other models than the base have."""
        base, *models = (source[rows] == NO_ROW for source in self.sources)
        return base | torch.stack(models).all(dim=0)


def align(folders: Sequence[Path], num_rows: Sequence[int]) -> Alignment | None:
    """How the rows of the inputs' word matrices correspond; the base comes first. None where no input has a tokenizer.

    Raises WeightsError where only some have one, where they differ in more than added tokens, or where a matrix
    has fewer rows than its tokenizer has tokens.
    """
    files = [folder / TOKENIZER for folder in folders]
    if not any(file.is_file() for file in files):
        return None
    tokenizers = _load(files)
    for folder, tokenizer, rows in zip(folders, tokenizers, num_rows, strict=True):
        highest = max(tokenizer.get_vocab().values())
        if highest >= rows:
            raise WeightsError(f"{folder}: {TOKENIZER} has id {highest}, the word embeddings only {rows} rows; resize")
        _check_ordinary(folders[0], tokenizers[0], folder, tokenizer)
    added = _tokens_to_add(tokenizers)
    target = tokenizers[0]
    if added:
        target = Tokenizer.from_file(str(files[0]))
        target.add_tokens(added)
    vocab = target.get_vocab()
    size = max(num_rows[0], max(vocab.values()) + 1)
    sources = [_rows(vocab, tokenizer.get_vocab(), size) for tokenizer in tokenizers]
    is_token = torch.zeros(size, dtype=torch.bool)
    is_token[torch.tensor(list(vocab.values()))] = True
    padding = torch.arange(num_rows[0])[~is_token[: num_rows[0]]]
    sources[0][padding] = padding
    return Alignment(sources, target if added else None)


def runs(source: Tensor) -> Iterator[tuple[slice, slice]]:
    """Stretches of `source` [R] that are consecutive rows: (places in it, rows of the matrix). NO_ROW is left out."""
    breaks = torch.nonzero((source[1:] != source[:-1] + 1) | (source[1:] == NO_ROW) | (source[:-1] == NO_ROW))
    edges = [0, *(breaks.flatten() + 1).tolist(), len(source)]
    for start, stop in pairwise(edges):
        first = int(source[start])
        if first != NO_ROW:
            yield slice(start, stop), slice(first, first + stop - start)


def rectify(tables: Sequence[Tensor], sources: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Fills rows that an input lacks, so that its task vector is 0 there; the base comes first.

    `tables` [R, D] are the inputs' rows, zeros where `sources` [R] says NO_ROW. A token that a model lacks takes the
    base's row; one that the base lacks takes, everywhere, the mean of the models that have it.
    """
    has = [(source != NO_ROW)[:, None] for source in sources]
    count = sum(one.float() for one in has[1:])
    mean = sum(tables[1:]) / torch.as_tensor(count).clamp(min=1)
    base = torch.where(has[0], tables[0], mean)
    models = [torch.where(has[0] & one, table, base) for table, one in zip(tables[1:], has[1:], strict=True)]
    return base, models


def _load(files: Sequence[Path]) -> list[Tokenizer]:
    """The inputs' tokenizers; equal files are parsed once."""
    parsed: dict[bytes, Tokenizer] = {}
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{file.parent}: has no {TOKENIZER}, the other inputs have; save its tokenizer there")
        content = file.read_bytes()
        if content not in parsed:
            try:
                parsed[content] = Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing narrower
                raise WeightsError(f"{file}: not a tokenizer: {error}") from error
    return [parsed[file.read_bytes()] for file in files]


def _check_ordinary(base_folder: Path, base: Tokenizer, folder: Path, tokenizer: Tokenizer) -> None:
    """Only added tokens may differ: with other ordinary ones no row means the same word."""
    if tokenizer is base:
        return
    ours, theirs = base.get_vocab(with_added_tokens=False), tokenizer.get_vocab(with_added_tokens=False)
    if ours != theirs:
        token = min(key for key, _ in ours.items() ^ theirs.items())
        raise WeightsError(
            f"{folder}: token {token!r} is not the same as in {base_folder}: only added tokens may differ; "
            "merge models of one tokenizer"
        )


def _tokens_to_add(tokenizers: Sequence[Tokenizer]) -> list[AddedToken]:
    """What the base lacks, in the order of the models and of their ids."""
    known = set(tokenizers[0].get_vocab())
    lacking: dict[str, AddedToken] = {}
    for tokenizer in tokenizers[1:]:
        for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
            if token.content not in known:
                lacking.setdefault(token.content, token)
    return list(lacking.values())


def _rows(vocab: dict[str, int], own: dict[str, int], size: int) -> Tensor:
    """For each row of the result the row of the same token in an input whose vocabulary is `own`."""
    source = torch.full((size,), NO_ROW)
    shared = [(row, own[token]) for token, row in vocab.items() if token in own]
    if shared:
        rows, theirs = torch.tensor(shared).T
        source[rows] = theirs
    return source
