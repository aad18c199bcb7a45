"""What a teacher is shown equals the canonical decode of what is in the store."""

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from data_engine.media import MediaStore, decode_image
from data_engine.sample import Media
from data_engine.teachers.ask import ask
from data_engine.teachers.cache import Cache
from data_engine.teachers.pictures import Pictures, data_url, is_plain
from data_engine.teachers.recipe import Pool, Teacher
from data_engine.teachers.request import Answer, Failure, Image, Request, Turn, question
from tests.data_engine.teachers.server import CountingServer


def saved(image: Pillow.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def coloured(mode: str = "RGB") -> Pillow.Image:
    random = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Pillow.fromarray(random).resize((160, 120)).convert(mode)


def lying(form: str) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return saved(coloured(), form, exif=exif)


def cut_out() -> Pillow.Image:
    image = coloured("RGBA")
    image.putalpha(Pillow.linear_gradient("L").resize(image.size))
    return image


def palette() -> bytes:
    return saved(coloured("P"), "PNG", transparency=3)


PLAIN = {
    "jpeg": saved(coloured(), "JPEG"), "grey jpeg": saved(coloured("L"), "JPEG"), "png": saved(coloured(), "PNG"),
    "grey png": saved(coloured("L"), "PNG"), "palette": saved(coloured("P"), "PNG"),
}  # fmt: skip
MADE_PLAIN = {
    "lying jpeg": lying("JPEG"), "lying png": lying("PNG"), "cut-out": saved(cut_out(), "PNG"), "hole": palette(),
    "webp": saved(coloured(), "WEBP"), "gif": saved(coloured("P"), "GIF"), "bmp": saved(coloured(), "BMP"),
    "16 bits": saved(Pillow.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)), "PNG"),
}  # fmt: skip


def shown(url: tuple[bytes, bytes]) -> npt.NDArray[np.uint8]:
    """As a plain decoder sees it."""
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(url[1]))).convert("RGB"))


@pytest.mark.parametrize("name", [*PLAIN, *MADE_PLAIN])
def test_a_plain_decoder_sees_the_canonical_decode(name: str) -> None:
    data = (PLAIN | MADE_PLAIN)[name]
    assert is_plain(data) == (name in PLAIN)
    url, truth = data_url(data, None), decode_image(data)
    assert shown(url).shape == truth.shape
    error = np.abs(shown(url).astype(int) - truth).mean()
    assert error < 4 if name == "lying jpeg" else error == 0, "but for JPEG's own loss"


def test_it_is_made_smaller_and_never_larger() -> None:
    assert shown(data_url(PLAIN["png"], 40)).shape == (30, 40, 3)
    assert shown(data_url(PLAIN["png"], 400)).shape == (120, 160, 3)


def test_pictures_go_with_the_request_and_a_missing_one_is_a_failure(server: CountingServer, tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "media")
    there, broken = store.put_bytes(PLAIN["jpeg"], ".jpg"), store.put_bytes(b"no picture", ".webp")
    asked = [question(key, Image(Media("image", key))) for key in (there, "0" * 64, broken)]
    asked.append(question("clip", Image(Media("video", there))))
    pool = Pool(teachers=(Teacher(name="t", url=server.url, model="m", attempts=2, back_off=0.01),))
    found = list(ask(pool, asked, pictures=Pictures(store), cache=Cache(tmp_path / "cache")))
    assert [one.reason if isinstance(one, Failure) else "" for one in found] == ["", *["picture cannot be shown"] * 3]
    assert isinstance(found[0], Answer) and found[0].text == there[::-1]
    (body,) = server.bodies
    assert np.array_equal(
        shown(tuple(body["messages"][0]["content"][1]["image_url"]["url"].encode().split(b","))),
        decode_image(PLAIN["jpeg"]),
    )


def test_many_pictures_stand_where_they_belong(server: CountingServer, tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    names = ("jpeg", "grey png", "lying png", "jpeg")
    one, two, three, four = (Image(Media("image", store.put_bytes((PLAIN | MADE_PLAIN)[name], ".x"))) for name in names)
    pool = Pool(teachers=(Teacher(name="t", url=server.url, model="m"),))
    turns = (
        Turn("user", (one, "picture- first", two)),
        Turn("assistant", ("so?",)),
        Turn("user", (three, "last", four)),
    )
    assert all(isinstance(found, Answer) for found in ask(pool, [Request(turns, "rule")], pictures=Pictures(store)))
    (body,) = server.bodies
    parts = [part for message in body["messages"] if message["role"] == "user" for part in message["content"]]
    assert [part.get("text") for part in parts] == [None, "picture- first", None, None, "last", None]
    urls = [part["image_url"]["url"].encode().split(b",") for part in parts if "image_url" in part]
    for name, url in zip(names, urls, strict=True):
        assert np.array_equal(shown(tuple(url)), decode_image((PLAIN | MADE_PLAIN)[name]))


def test_another_picture_or_size_is_another_question(server: CountingServer, tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "media")
    keys = [store.put_bytes(PLAIN[name], ".png") for name in ("png", "grey png")]
    pool = Pool(teachers=(Teacher(name="t", url=server.url, model="m"),))
    asked = [question("a", Image(Media("image", key), side)) for key in keys for side in (None, 40)]
    for _ in range(2):
        list(ask(pool, asked, pictures=Pictures(store), cache=Cache(tmp_path / "cache")))
    assert server.asked == {"a": 4}
