"""Pages whose content is known: what stood where, what is boilerplate, and what is wrong."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.media import MediaStore
from data_engine.sample import Sample
from data_engine.sources import html
from tests.data_engine.sources.helpers import png, read_all, reasons

PAGE = """<!DOCTYPE html><html><head><title>Site</title><style>p {}</style><script>var x = "no";</script></head>
<body><nav><a href="/">Home</a></nav>
<div class="navheader">Previous Next</div>
<ul><li><a href="a">One link</a></li><li><a href="b">Two link</a></li><li><a href="c">Three link</a></li></ul>
<h1>Of   <em>Stones</em></h1>
<p>The first <b>stone</b> is
grey.<!-- comment --> It lies<br>here.</p>
<figure><img src="a.png" alt="x"><figcaption>Figure 1: a <i>stone</i>.</figcaption></figure>
<p>A sign <img src="pics/b%20c.png"> stands in the text.</p>
<table><tr><th>Name</th><th>Weight</th></tr><tr><td>Big</td><td>7 kg</td></tr></table>
<ul><li>First</li><li>Second with <a href="x">a link</a></li></ul>
<pre>def f():
    return 1</pre>
<p style="display: none">Hidden</p><p aria-hidden="true">Hidden</p>
<form><input name="q"><p>Search</p></form><div id="cookie-banner">We use cookies</div>
<p>The end.</p><footer>Copyright</footer></body></html>"""


def shown(sample: Sample, store: MediaStore) -> list[str]:
    """Texts, and pictures by their bytes."""
    return [
        part.text or "" if part.kind == "text" else repr(store.read(sample.media[part.media[0]].key))
        for part in sample.messages[0].parts
    ]


@pytest.fixture
def page(root: Path) -> Path:
    (root / "pics").mkdir()
    (root / "a.png").write_bytes(png(40, 40, 1))
    (root / "pics" / "b c.png").write_bytes(png(40, 40, 2))
    (root / "page.html").write_text(PAGE, encoding="utf-8")
    return root


def test_text_and_pictures_stand_where_they_stood(page, store):
    (sample,), bad = read_all(html, page, store)
    assert bad == []
    assert shown(sample, store) == [
        "# Of Stones\n\nThe first stone is grey. It lies\nhere.\n\n",
        repr(png(40, 40, 1)),
        "\nFigure 1: a stone.\n\nA sign ",
        repr(png(40, 40, 2)),
        " stands in the text.\n\nName | Weight\n\nBig | 7 kg\n\n- First\n\n- Second with a link\n\n"
        "def f():\n    return 1\n\nThe end.",
    ]
    assert sample.messages[0].role == "document" and sample.modality == "image"
    assert (sample.origin, sample.group) == ("page.html#0", "corpus/page.html")


def test_a_page_is_cut_at_headings_and_no_word_is_lost(root, store):
    (root / "a.png").write_bytes(png(40, 40))
    words = [[f"w{chapter}.{n}" for n in range(60)] for chapter in range(12)]
    chapters = "".join(
        f"<h2>Chapter {n}</h2><p>{' '.join(w[:30])}</p><figure><img src=a.png><figcaption>F{n}</figcaption></figure>"
        f"<p>{' '.join(w[30:])}</p>"
        for n, w in enumerate(words)
    )
    (root / "page.html").write_text(f"<html><body><main>{chapters}</main></body></html>")
    good, bad = read_all(html, root, store, {"max_chars": 900})
    assert bad == [] and 4 < len(good) < 12
    assert all(len(sample.text) < 1000 and sample.text.startswith("## Chapter") for sample in good)
    together = " ".join(sample.text for sample in good).split()
    assert [word for word in together if word.startswith("w")] == [word for w in words for word in w]
    assert sum(part.kind == "image" for s in good for part in s.messages[0].parts) == 12
    for sample in good:
        for before, after in zip(sample.messages[0].parts, sample.messages[0].parts[1:], strict=False):
            assert before.kind != "image" or str(after.text).startswith("\nF")


def test_a_long_paragraph_is_cut_and_a_page_without_pictures_is_text(root, store):
    (root / "page.htm").write_text("<p>" + "word " * 1000 + "</p>")
    good, _ = read_all(html, root, store, {"max_chars": 300})
    assert len(good) >= 17 and all(len(sample.text) <= 300 and sample.modality == "text" for sample in good)
    assert "".join(sample.text for sample in good).split() == ["word"] * 1000


def test_images_at_fault_are_told_and_the_page_is_read(root, store):
    (root / "small.png").write_bytes(png(31, 100))
    (root / "fine.png").write_bytes(png(40, 40, 9))
    (root / "text.png").write_text("<html>")
    inline = base64.b64encode(png(40, 40, 3)).decode()
    faults = {
        "small.png": "31 x 100 pixels: smaller than 32",
        "text.png": "not an image",
        "absent.png": "no such file",
        "../up.png": "leaves the corpus folder",
        "/../up.png": "leaves the corpus folder",
        "https://example.org/a.png": "remote",
        "//example.org/a.png": "remote",
        "": "no such file",
        ".": "no such file",
        "data:image/png;base64,%%": "not decode",
        "data:nothing": "without data",
        "data:image/png;base64,AAAA": "not an image",
        "http://[": "no address",
    }
    fine = [f"data:image/png;base64,{inline}", "fine.png", "/fine.png"]
    tags = "".join(f"<p>word <img src='{name}'></p>" for name in [*faults, *fine])
    (root / "page.html").write_text(f"<body>{tags}</body>")
    (sample,), bad = read_all(html, root, store)
    found = reasons(bad)
    assert found.keys() == {f"page.html#image={n}" for n in range(1, len(faults) + 1)}
    for number, (name, reason) in enumerate(faults.items(), 1):
        assert reason in found[f"page.html#image={number}"][1], (name, found)
    assert [item for item in shown(sample, store) if "PNG" in item] == [repr(png(40, 40, n)) for n in (3, 9, 9)]
    assert len(sample.media) == 2


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", "file", "empty file"),
        (b"  \n", "file", "empty file"),
        (b"<p>caf\xe9</p>", "text", "not UTF-8 at byte 6"),
        (b"<meta charset=klingon><p>x</p>", "text", "unknown encoding"),
        (b"<p>a\0b</p>", "text", "NUL byte"),
        (b"<body><nav>Home</nav><script>x</script></body>", "text", "nothing but navigation"),
        (b"<div>" * 5000 + b"x", "file", "nested too deep"),
    ],
)
def test_pages_at_fault(data, field, reason, root, store):
    (root / "page.html").write_bytes(data)
    good, bad = read_all(html, root, store)
    ((found, why),) = reasons(bad).values()
    assert good == [] and found == field and reason in why


def test_a_page_says_its_own_encoding(root, store):
    (root / "page.html").write_bytes('<meta charset="gb18030"><p>石头</p>'.encode("gb18030"))
    (sample,), _ = read_all(html, root, store)
    assert sample.text == "石头"


@given(st.text(alphabet="<>/pdivhul1 =\"'imgsrcab\n&;", max_size=200))
def test_any_markup_is_read_or_told(tmp_path_factory, markup):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "page.html").write_text(markup, encoding="utf-8")
    good, bad = read_all(html, folder, MediaStore(folder / "store"))
    assert good or bad
