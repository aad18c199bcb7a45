"""Small slices of the real corpora, and the recipe that curates them: what a whole run is tested on."""

import shutil
from pathlib import Path

import ffmpeg
import yaml

DEMO = Path(__file__).parent.parent / "data_engine" / "recipes" / "demo.yaml"
STAMPS = ("animals/birds", "food/fruit", "vehicles")


def make(corpora: Path, target: Path) -> Path:
    """Copies a little of every corpus: stamps, two PDFs, six photos, 120 questions, two videos, some text."""
    for folder in ("stamps", "scene_text", "easy_vqa/images", "video", "text/en", "text/zh", "champ", "manuals"):
        (target / folder).mkdir(parents=True)
    _some(corpora / "stamps", target / "stamps", 24)
    _some(corpora / "scene_text", target / "scene_text", 5)
    shutil.copytree(corpora / "manuals", target / "manuals", dirs_exist_ok=True)
    lines = (corpora / "easy_vqa/train.jsonl").read_text(encoding="utf-8").splitlines()[:240]
    (target / "easy_vqa/train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(40):
        shutil.copy(corpora / f"easy_vqa/images/{number}.png", target / "easy_vqa/images")
    words = (corpora / "easy_vqa_words/train.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    (target / "easy_vqa_words").mkdir()
    (target / "easy_vqa_words/train.jsonl").write_text("\n".join(words) + "\n", encoding="utf-8")
    for folder in ("text/en", "text/zh"):
        source = next((corpora / folder).glob("*.txt"))
        (target / folder / source.name).write_text(source.read_text(encoding="utf-8")[60_000:90_000], encoding="utf-8")
    problems = (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()[:30]
    (target / "champ/champ.jsonl").write_text("\n".join(problems) + "\n", encoding="utf-8")
    benchmarks(corpora, target)
    shutil.copytree(corpora / "writing", target / "writing")
    # A shot with a title card.
    (target / "trailer").mkdir()
    card = ffmpeg.input(str(corpora / "trailer/trailer_bbb.mp4"), ss=14, t=12)
    card.output(str(target / "trailer/trailer_bbb.mp4"), an=None, preset="ultrafast", loglevel="error").run()
    # From its very start the AVI: a copy from further in keeps the gap before it in its header's duration.
    for name, start in (("bbb_5min.mp4", 20), ("vtest.avi", 0)):
        video = ffmpeg.input(str(corpora / "video" / name), ss=start, t=28)
        video.output(str(target / "video" / name), c="copy", an=None, loglevel="error").run()
    return target


def benchmarks(corpora: Path, target: Path) -> None:
    """What the recipe decontaminates against: six pictures, their captions, and the problems kept for judging."""
    _some(corpora / "stamps/space", target / "stamps/space", 6)
    shutil.copytree(corpora / "champ_heldout", target / "champ_heldout")


def _some(source: Path, target: Path, count: int) -> None:
    """The first `count` pictures that have a caption, from folders spread over the tree, with their captions."""
    pictures = sorted(path for path in source.rglob("*") if path.suffix in {".png", ".jpg"})
    for path in pictures[:: max(1, len(pictures) // count)][:count]:
        for file in (path, path.with_suffix(".txt")):
            if file.exists():
                copy = target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)


def recipe(root: Path, path: Path) -> Path:
    """The demo's recipe over a small root: fewer pages and tasks, smaller shards, gates that fit few samples."""
    data = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    data["root"] = str(root)
    by_name = {corpus["corpus"]: corpus for corpus in data["corpora"]}
    by_name["pages"]["sources"][0]["options"] |= {"pages": 2, "max_blocks": 4}
    tasks = {"frame_order": 6, "splice_time": 8, "which_clip": 8, "which_first": 6, "video_match": 4}
    for source in by_name["written"]["sources"]:
        source["options"]["num"] = dict.fromkeys(source["options"]["num"], 1)
    by_name["film"]["sources"][0]["options"]["num"] = tasks
    for corpus in data["corpora"]:
        corpus["holdout"] = {"share": 0.2, "by": "id"}
    data["gates"] = [{"measure": "kept", "min": 1}, {"measure": "quarantined_share", "max": 0.5}]
    data["shards"]["samples"] = 100
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path
