"""What the demo's pictures of text are drawn with: fonts, photographs to stand on, words, and source code.

All lie below `writing`, the one folder that the sources `rendered_text`, `rendered_documents` and `character_matrix`
read.
"""

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from data_engine.demo_item import Item
from data_engine.demo_unpack import debian_files, write

FORTUNES = "usr/share/games/fortunes"
CODE = frozenset(
    {
        ".py",
        ".rb",
        ".java",
        ".go",
        ".php",
        ".lua",
        ".js",
        ".c",
        ".h",
        ".cxx",
        ".cs",
        ".pl",
        ".ml",
        ".d",
        ".scm",
        ".html",
    }
)


def below(
    folder: str, target: str, suffixes: Collection[str], is_flat: bool = True, names: Collection[str] = ()
) -> Callable[[Path, Path], None]:
    """Takes the files of a package below `folder` that have one of the suffixes, or of the names, into `target`.

    What has no suffix is text. `is_flat`: their folders are not kept.
    """

    def unpack(deb: Path, out: Path) -> None:
        top = PurePosixPath(folder)

        def wanted(path: PurePosixPath) -> bool:
            return path.is_relative_to(top) and path.suffix in suffixes and (not names or path.name in names)

        for path, data in debian_files(deb, wanted):
            name = PurePosixPath(path.name) if is_flat else path.relative_to(top)
            write(out / target / (name if name.suffix else name.with_suffix(".txt")), data)

    return unpack


ITEMS: tuple[Item, ...] = (
    Item(
        name="fonts_latin",
        client="apt",
        package="fonts-dejavu-core",
        version="2.37-6",
        file="fonts-dejavu-core_2.37-6_all.deb",
        sha256="8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
        bytes=1_067_728,
        licence="Bitstream-Vera",
        attribution="DejaVu fonts, 2003 Bitstream and 2004-2016 the DejaVu contributors",
        holds="Latin letters in six cuts",
        paths=("writing/fonts/latin",),
        unpack=below("usr/share/fonts", "writing/fonts/latin", {".ttf"}),
    ),
    Item(
        name="fonts_zh",
        client="apt",
        package="fonts-wqy-zenhei",
        version="0.9.45-8",
        file="fonts-wqy-zenhei_0.9.45-8_all.deb",
        sha256="cfed2c29164ff2f133e40ed2046610b172b8618d174840936ac4ec9b6fd668e7",
        bytes=7_478_908,
        licence="GPL-2.0 WITH Font-exception-2.0",
        attribution="WenQuanYi Zen Hei, 2007-2009 Qianqian Fang and the WenQuanYi Project",
        holds="Han characters, kana and hangul in one cut",
        paths=("writing/fonts/zh",),
        unpack=below("usr/share/fonts", "writing/fonts/zh", {".ttc"}),
    ),
    Item(
        name="fonts_emoji",
        client="apt",
        package="fonts-noto-color-emoji",
        version="2.042-0+deb12u1",
        file="fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
        sha256="a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751",
        bytes=9_893_872,
        licence="OFL-1.1",
        attribution="Noto Color Emoji, 2013-2017 Google",
        holds="emoji in colour",
        paths=("writing/fonts/emoji",),
        unpack=below("usr/share/fonts", "writing/fonts/emoji", {".ttf"}),
    ),
    Item(
        name="backgrounds",
        client="apt",
        package="lomiri-wallpapers-16.04",
        version="20.04.0-2",
        file="lomiri-wallpapers-16.04_20.04.0-2_all.deb",
        sha256="a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        bytes=15_783_184,
        licence="CC-BY-4.0 AND CC-BY-SA-3.0 AND CC-BY-SA-4.0",
        attribution="Ubuntu Touch wallpapers, 2015-2018, each by the photographer its file is named for",
        holds="fifteen photographs",
        paths=("writing/backgrounds",),
        unpack=below("usr/share/backgrounds", "writing/backgrounds", {".jpg"}),
    ),
    Item(
        name="code",
        client="apt",
        package="swig4.0-examples",
        version="4.1.0-0.2",
        file="swig4.0-examples_4.1.0-0.2_all.deb",
        sha256="c32b95ae49ff887a720177e7c4b04af17073f08a46921439bac0e813c69f4bc3",
        bytes=1_398_188,
        licence="GPL-3.0-or-later",
        attribution="SWIG examples, 1995-2022 the SWIG developers",
        holds="small programs in fifteen languages",
        paths=("writing/code",),
        unpack=below("usr/share/doc/swig4.0-examples/Examples", "writing/code", CODE, is_flat=False),
    ),
    Item(
        name="poems",
        client="apt",
        package="fortunes-zh",
        version="2.98",
        file="fortunes-zh_2.98_all.deb",
        sha256="211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105",
        bytes=546_072,
        licence="GPL-3.0-or-later",
        attribution="fortunes-zh, 2001-2021 Yu Guanghui, Mo Zhou, xiao sheng wen",
        holds="poems of the Tang and the Song",
        paths=("writing/texts/zh",),
        unpack=below(FORTUNES, "writing/texts/zh", {""}, names=("tang300", "song100")),
    ),
    Item(
        name="sayings",
        client="apt",
        package="fortunes-min",
        version="1:1.99.1-7.3",
        file="fortunes-min_1%3a1.99.1-7.3_all.deb",
        sha256="9eed5b45064e41133dae0967cf3a17588ad77c014fcc7bf1527fa3ea48e44d07",
        bytes=56_492,
        licence="BSD-4-Clause",
        attribution="fortune, 1986 Ken Arnold and its collectors",
        holds="sayings and riddles in English",
        paths=("writing/texts/en",),
        unpack=below(FORTUNES, "writing/texts/en", {""}, names=("literature", "riddles")),
    ),
)
