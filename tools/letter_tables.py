"""Makes data_engine/letters.npz, what `data_engine.words` knows of letters: run it to take a newer Unicode in.

python tools/letter_tables.py     (needs the package opencc)
"""

import unicodedata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_engine.words import ALONE, ALPHA, ENDS, HAN, HANGUL, KANA, LATIN, LETTER, SPACE, TABLE_SIZE

UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x2FA1F),
)  # fmt: skip
# Ends of sentences (Unicode's STerm, the common scripts) and the closing marks that may follow them.
TERMINAL = ".!?…。！？｡．؟۔।॥։။።፧‼‽⁇⁈⁉"
TARGET = Path(__file__).parents[1] / "data_engine" / "letters.npz"


def make() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """(folded, kind) per code point: case, width and compatibility forms, then traditional to simplified Chinese."""
    folded = np.arange(TABLE_SIZE, dtype=np.uint32)
    kind = np.zeros(TABLE_SIZE, np.uint8)
    for point in range(TABLE_SIZE):
        letter = chr(point)
        if unicodedata.category(letter)[0] in "LMN":
            plain = unicodedata.normalize("NFKC", letter).casefold()
            folded[point] = ord(plain) if len(plain) == 1 else point
            kind[point] = LETTER
    simple = simplified()
    folded = np.array([simple.get(point, point) for point in folded.tolist()], np.uint32)
    alone = np.ones(int(folded.max()) + 1, bool)  # beyond the table there is Han only
    alone[:TABLE_SIZE] = False
    for first, last in UNSPACED:
        alone[first : last + 1] = True
    kind[(kind == LETTER) & alone[folded]] = ALONE  # by the folded form: half-width kana are kana
    return folded, kind


def plain_forms(folded: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """What rules read for each code point: letters and digits as folded, signs in full width as the usual ones.

    Numbers that are no digits (², ①) stay as they are: they do not count what stands beside them.
    """
    plain = np.arange(TABLE_SIZE, dtype=np.uint32)
    for point in range(TABLE_SIZE):
        letter = chr(point)
        usual = unicodedata.normalize("NFKC", letter)
        if unicodedata.decomposition(letter).startswith(("<wide>", "<narrow>")) and len(usual) == 1:
            plain[point] = folded[ord(usual)]
        elif unicodedata.category(letter) != "No":
            plain[point] = folded[point]
    return plain


def traits() -> npt.NDArray[np.uint8]:
    """Per code point a set of flags: a letter, an end of a sentence, white space, Han, Latin, kana, hangul."""
    found = np.zeros(TABLE_SIZE, np.uint8)
    for point in range(TABLE_SIZE):
        letter = chr(point)
        found[point] = (ALPHA if letter.isalpha() else 0) | (SPACE if letter.isspace() else 0)
        for flag, script in ((LATIN, "LATIN"), (KANA, "HIRAGANA"), (KANA, "KATAKANA"), (HANGUL, "HANGUL")):
            if letter.isalpha() and script in unicodedata.name(letter, ""):
                found[point] |= flag
    for letter in TERMINAL:
        found[ord(letter)] |= ENDS
    for first, last in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F)):
        found[first : last + 1] |= HAN
    return found


def simplified() -> dict[int, int]:
    """Traditional Chinese characters and their simplified forms (OpenCC's tables), one by one."""
    from opencc import OpenCC

    han = [chr(point) for first, last in ((0x3400, 0x9FFF), (0x20000, 0x2FA1F)) for point in range(first, last + 1)]
    simple = OpenCC("t2s").convert("\n".join(han)).split("\n")
    return {ord(before): ord(after) for before, after in zip(han, simple, strict=True) if len(after) == 1}


if __name__ == "__main__":
    folded, kind = make()
    points = np.arange(TABLE_SIZE, dtype=np.int32)
    shift, plain = (forms.astype(np.int32) - points for forms in (folded, plain_forms(folded)))  # mostly 0: small
    np.savez_compressed(TARGET, shift=shift, kind=kind, traits=traits(), plain=plain)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, Unicode {unicodedata.unidata_version}")
