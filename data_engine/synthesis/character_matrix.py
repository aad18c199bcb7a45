"""Matrices of characters, and thirteen classes of instruction to read or find in them.

The Keye-VL-1.5 report (section on OCR) names thirteen classes of "row/column extraction in four directions and their
combinations" and lists none. These are ours; rows are counted from the top or the bottom, columns from the left or
the right, and an answer is the characters without anything between them:

| class | asks for |
| --- | --- |
| `row_right` | a row from left to right |
| `row_left` | a row from right to left |
| `column_down` | a column from top to bottom |
| `column_up` | a column from bottom to top |
| `row_right_column_down` | a row from left to right, then a column from top to bottom |
| `row_right_column_up` | a row from left to right, then a column from bottom to top |
| `row_left_column_down` | a row from right to left, then a column from top to bottom |
| `row_left_column_up` | a row from right to left, then a column from bottom to top |
| `rows_snake` | all rows from the top, the first from left to right, the next back, and so on |
| `columns_from_right` | all columns from the right, each from top to bottom, as old Chinese books are read |
| `segment` | so many characters from a cell on, in one of the four directions |
| `cell` | the one character in a row and a column |
| `place` | the row and the column of a character that occurs once |
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from data_engine.synthesis import matrix_wording as wording
from data_engine.synthesis.wording import Language

Matrix = tuple[tuple[str, ...], ...]
Cell = tuple[int, int]
Reading = Literal[
    "row_right",
    "row_left",
    "column_down",
    "column_up",
    "row_right_column_down",
    "row_right_column_up",
    "row_left_column_down",
    "row_left_column_up",
    "rows_snake",
    "columns_from_right",
    "segment",
    "cell",
    "place",
]
READINGS: tuple[Reading, ...] = get_args(Reading)
_STEPS: Mapping[str, Cell] = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a matrix and its answer."""

    question: str
    answer: str


def ask(rng: random.Random, reading: Reading, matrix: Matrix, language: Language) -> Asked:
    """One instruction of the class, with rows, columns and direction drawn. Raises ValueError for a `place` in a
    matrix without a character that occurs once."""
    if reading in _OTHERS:
        return _OTHERS[reading](rng, matrix, language)
    axis, direction, *rest = reading.split("_")
    if rest:
        return _lines(rng, direction, rest[1], matrix, language)
    return _line(rng, axis, direction, matrix, language)


def row_cells(matrix: Matrix, row: int, direction: str) -> list[Cell]:
    cells = [(row, column) for column in range(len(matrix[0]))]
    return cells if direction == "right" else cells[::-1]


def column_cells(matrix: Matrix, column: int, direction: str) -> list[Cell]:
    cells = [(row, column) for row in range(len(matrix))]
    return cells if direction == "down" else cells[::-1]


def _spelled(matrix: Matrix, cells: Sequence[Cell]) -> str:
    return "".join(matrix[row][column] for row, column in cells)


def _line(rng: random.Random, axis: str, direction: str, matrix: Matrix, language: Language) -> Asked:
    count = len(matrix) if axis == "row" else len(matrix[0])
    number = rng.randrange(count)
    cells = (row_cells if axis == "row" else column_cells)(matrix, number, direction)
    named = wording.counted(rng, axis, number, count, language)
    question = rng.choice(wording.LINE[language]).format(line=named, way=wording.WAYS[language][direction])
    return Asked(question, _spelled(matrix, cells))


def _lines(rng: random.Random, across: str, along: str, matrix: Matrix, language: Language) -> Asked:
    row, column = rng.randrange(len(matrix)), rng.randrange(len(matrix[0]))
    cells = row_cells(matrix, row, across) + column_cells(matrix, column, along)
    question = rng.choice(wording.LINES[language]).format(
        row=wording.counted(rng, "row", row, len(matrix), language),
        across=wording.WAYS[language][across],
        column=wording.counted(rng, "column", column, len(matrix[0]), language),
        along=wording.WAYS[language][along],
    )
    return Asked(question, _spelled(matrix, cells))


def _rows_snake(rng: random.Random, matrix: Matrix, language: Language) -> Asked:
    turns = ("right", "left")
    cells = [cell for row in range(len(matrix)) for cell in row_cells(matrix, row, turns[row % 2])]
    return Asked(rng.choice(wording.SNAKE[language]), _spelled(matrix, cells))


def _columns_from_right(rng: random.Random, matrix: Matrix, language: Language) -> Asked:
    cells = [cell for column in range(len(matrix[0]))[::-1] for cell in column_cells(matrix, column, "down")]
    return Asked(rng.choice(wording.FROM_RIGHT[language]), _spelled(matrix, cells))


def _segment(rng: random.Random, matrix: Matrix, language: Language) -> Asked:
    direction = rng.choice(sorted(_STEPS))
    down, right = _STEPS[direction]
    length = rng.randint(2, len(matrix) if down else len(matrix[0]))
    row = _start(rng, len(matrix), down, length)
    column = _start(rng, len(matrix[0]), right, length)
    cells = [(row + number * down, column + number * right) for number in range(length)]
    question = rng.choice(wording.SEGMENT[language]).format(
        row=wording.counted(rng, "row", row, len(matrix), language),
        column=wording.counted(rng, "column", column, len(matrix[0]), language),
        count=length,
        way=wording.TOWARDS[language][direction],
    )
    return Asked(question, _spelled(matrix, cells))


def _start(rng: random.Random, count: int, step: int, length: int) -> int:
    if step == 0:
        return rng.randrange(count)
    return rng.randint(0, count - length) if step > 0 else rng.randint(length - 1, count - 1)


def _cell(rng: random.Random, matrix: Matrix, language: Language) -> Asked:
    row, column = rng.randrange(len(matrix)), rng.randrange(len(matrix[0]))
    question = rng.choice(wording.CELL[language]).format(
        row=wording.counted(rng, "row", row, len(matrix), language),
        column=wording.counted(rng, "column", column, len(matrix[0]), language),
    )
    return Asked(question, matrix[row][column])


def _place(rng: random.Random, matrix: Matrix, language: Language) -> Asked:
    every = [char for row in matrix for char in row]
    once = [
        (row, column) for row, line in enumerate(matrix) for column, char in enumerate(line) if every.count(char) == 1
    ]
    if not once:
        raise ValueError("no character of the matrix occurs once")
    row, column = rng.choice(once)
    question = rng.choice(wording.PLACE[language]).format(char=matrix[row][column])
    return Asked(question, wording.PLACED[language].format(row=row + 1, column=column + 1))


_OTHERS: Mapping[Reading, Callable[[random.Random, Matrix, Language], Asked]] = {
    "rows_snake": _rows_snake,
    "columns_from_right": _columns_from_right,
    "segment": _segment,
    "cell": _cell,
    "place": _place,
}
