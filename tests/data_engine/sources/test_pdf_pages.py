"""PDFs written here, whose texts and pictures are at known places; and the manuals, held to plain pdftotext."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_engine.media import MediaStore, decode_image
from data_engine.sample import Sample
from data_engine.sources import pdf_pages
from tests.data_engine.sources.helpers import read_all, reasons

Text = tuple[float, float, str]
Image = tuple[float, float, float, float, int]  # left, top, width, height in points, shade


def write_pdf(path: Path, pages: list[tuple[list[Text], list[Image]]], side: int = 64) -> None:
    """Pages of 600 x 800 points; places are from the upper left corner. Pictures are `side` pixels wide."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids = []
    for texts, images in pages:
        stream, names = "", ""
        for left, top, words in texts:
            stream += f"BT /F 10 Tf {left} {800 - top} Td ({words}) Tj ET\n"
        for left, top, width, height, shade in images:
            data = bytes([shade, 0, 0]) * side * side
            head = f"<< /Type /XObject /Subtype /Image /Width {side} /Height {side} /ColorSpace /DeviceRGB "
            head += f"/BitsPerComponent 8 /Length {len(data)} >>\nstream\n"
            objects.append(head.encode() + data + b"\nendstream")
            names += f"/I{len(objects)} {len(objects)} 0 R "
            stream += f"q {width} 0 0 {height} {left} {800 - top - height} cm /I{len(objects)} Do Q\n"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}endstream".encode())
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {len(objects)} 0 R "
        page += f"/Resources << /Font << /F 3 0 R >> /XObject << {names}>> >> >>"
        objects.append(page.encode())
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(data))
    path.write_bytes(data + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer)


def shown(sample: Sample, store: MediaStore) -> list[str | int]:
    """Texts, and the shades of pictures."""
    return [
        str(part.text).strip()
        if part.kind == "text"
        else int(decode_image(store.read(sample.media[part.media[0]].key))[0, 0, 0])
        for part in sample.messages[0].parts
    ]


def paragraph(left: float, top: float, words: str) -> list[Text]:
    return [(left, top + 12 * n, f"{words} line {n} of this long paragraph of words") for n in range(4)]


def test_pictures_stand_between_their_paragraphs(root, store):
    texts = [*paragraph(50, 100, "First"), *paragraph(50, 400, "Second"), *paragraph(50, 700, "Third")]
    write_pdf(root / "a.pdf", [(texts, [(60, 550, 100, 100, 7), (60, 200, 100, 100, 5)])])
    (sample,), bad = read_all(pdf_pages, root, store)
    assert bad == []
    first, five, second, seven, third = shown(sample, store)
    assert (five, seven) == (5, 7) and sample.modality == "image"
    assert all(str(text).startswith(word) for text, word in ((first, "First"), (second, "Second"), (third, "Third")))
    assert str(first).count("\n") == 0 and str(first).endswith("First line 3 of this long paragraph of words")


def test_columns_keep_their_pictures(root, store):
    left = [*paragraph(40, 100, "La"), *paragraph(40, 400, "Lb")]
    right = [*paragraph(330, 100, "Ra"), *paragraph(330, 400, "Rb")]
    write_pdf(root / "a.pdf", [([*left, *right], [(340, 200, 100, 100, 9), (50, 200, 100, 100, 8)])])
    (sample,), _ = read_all(pdf_pages, root, store)
    found = [item if isinstance(item, int) else re.findall(r"\b[LR][ab]\b", item)[0] for item in shown(sample, store)]
    assert found.index(8) == found.index("La") + 1 and found.index(9) == found.index("Ra") + 1


def test_a_page_of_pictures_only_is_in_order_from_top_to_bottom(root, store):
    write_pdf(root / "a.pdf", [([], [(50, 500, 50, 50, 3), (50, 100, 50, 50, 1), (50, 300, 50, 50, 2)])])
    (sample,), _ = read_all(pdf_pages, root, store)
    assert shown(sample, store) == [1, 2, 3]


def test_running_titles_and_page_numbers_are_left_out(root, store):
    pages = [([(50, 20, f"The Book, page {n}"), *paragraph(50, 300, f"P{n}")], []) for n in range(4)]
    write_pdf(root / "a.pdf", pages)
    good, _ = read_all(pdf_pages, root, store)
    words = "\n".join(sample.text for sample in good)
    assert "Book" not in words and all(f"P{n} line 3" in words for n in range(4))
    assert good[0].modality == "text"


def test_units_and_documents_are_bounded(root, store):
    write_pdf(root / "a.pdf", [(paragraph(50, 300, f"P{n}"), []) for n in range(5)])
    options = {"unit_pages": 2, "max_chars": 200}
    assert pdf_pages.units(root, options) == ["a.pdf#pages=1-2", "a.pdf#pages=3-4", "a.pdf#pages=5-5"]
    good, _ = read_all(pdf_pages, root, store, options)
    assert len(good) == 5 and {sample.group for sample in good} == {"corpus/a.pdf"}


def test_faults_are_told_where_they_are(root, store, corpora):
    write_pdf(root / "small.pdf", [([(50, 300, "words")], [(50, 400, 9, 9, 1)])], side=8)
    (root / "empty.pdf").touch()
    (root / "other.pdf").write_text("<html>")
    write_pdf(root / "blank.pdf", [([], [])])
    data = (corpora / "manuals" / "debian-reference.en.pdf").read_bytes()
    (root / "half.pdf").write_bytes(data[: len(data) // 2])
    good, bad = read_all(pdf_pages, root, store)
    assert [sample.text for sample in good if "small" in sample.origin] == ["words"]
    found = reasons(bad)
    assert found["small.pdf#page=1/image=0"] == ("image", "8 x 8 pixels: smaller than 32, an ornament")
    assert found["empty.pdf#pages=1-1"] == ("pdf", "empty file")
    assert found["blank.pdf#pages=1-1"][1] == "pages without text or pictures"
    assert found["other.pdf#page=1"][0] == "pdf" and any(where.startswith("half.pdf") for where in found)


@pytest.mark.parametrize("name", ["debian-reference.en.pdf", "debian-reference.zh-cn.pdf"])
def test_no_word_of_a_manual_is_lost(corpora, store, name):
    path = corpora / "manuals" / name
    good, bad = read_all(pdf_pages, path, store, units=[f"{name}#pages=33-36"])
    plain = subprocess.run(["pdftotext", "-f", "33", "-l", "36", str(path), "-"], capture_output=True, check=True)
    ours, theirs = (
        sorted(re.sub(r"[\s-]", "", words))
        for words in ("".join(sample.text for sample in good), plain.stdout.decode())
    )
    assert bad == [] and len(ours) > 0.97 * len(theirs)
    assert np.mean([len(sample.text) for sample in good]) > 1000
