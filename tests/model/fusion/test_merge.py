"""Whole folders: what is written, what is refused, and that a tiny model merges, loads and runs."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from model.fusion import merge as module
from model.fusion.merge import merge
from model.fusion.methods import BASELESS, METHODS, Method
from model.modeling import KeyeForConditionalGeneration, build
from model.processing import KeyeProcessor
from model.weights import WeightsError, verify
from tests.model.fusion.folders import moved, read, recipe, some_tensors, with_tokens, write


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """A base and two models trained from it."""
    base = some_tensors()
    return [write(tmp_path / name, moved(base, scale)) for name, scale in (("base", 0.0), ("a", 0.1), ("b", 0.3))]


def test_task_arithmetic_adds_up(tmp_path: Path, three: list[Path]) -> None:
    base, a, b = map(read, three)
    divergence = merge(recipe("task_arithmetic", three[1:], three[0]), tmp_path / "out")
    result = read(tmp_path / "out")
    verify(tmp_path / "out")
    for name, tensor in base.items():
        expected = a[name] + b[name] - tensor if tensor.is_floating_point() else tensor
        torch.testing.assert_close(result[name], expected)
    assert divergence.models == [str(three[1]), str(three[2])]
    assert json.loads((tmp_path / "out/divergence.json").read_text()) == json.loads(divergence.to_json())
    record = json.loads((tmp_path / "out/merge.json").read_text())
    assert record["method"] == "task_arithmetic" and set(record["inputs"]) == {str(one) for one in three}
    assert all(len(record["inputs"][str(one)]["model.safetensors"]) == 64 for one in three)


@pytest.mark.parametrize("method", METHODS)
def test_small_chunks_write_the_same_bytes(
    tmp_path: Path, three: list[Path], method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(method, three[1:], None if method in ("linear", "slerp") else three[0])
    merge(wanted, tmp_path / "whole")
    monkeypatch.setattr(module, "CHUNK_VALUES", 7)
    merge(wanted, tmp_path / "chunks")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "chunks/model.safetensors").read_bytes()


def test_the_target_type_is_rounded_to_once(tmp_path: Path, three: list[Path]) -> None:
    merge(recipe("linear", three), tmp_path / "full")
    merge(recipe("linear", three, dtype="bfloat16"), tmp_path / "half")
    full, half = read(tmp_path / "full"), read(tmp_path / "half")
    for name, tensor in full.items():
        assert torch.equal(half[name], tensor.bfloat16() if tensor.is_floating_point() else tensor)


def test_the_sum_is_formed_in_float32(tmp_path: Path) -> None:
    """In bfloat16, 256 + 1 is 256: two small task vectors would be lost one after the other."""
    base = write(tmp_path / "base", {"w": torch.full((4,), 256.0).bfloat16()})
    model = write(tmp_path / "model", {"w": torch.full((4,), 258.0).bfloat16()})
    halves = recipe("task_arithmetic", [model] * 2, base)
    halves = halves.model_copy(update={"models": tuple(m.model_copy(update={"weight": 0.5}) for m in halves.models)})
    merge(halves, tmp_path / "out")
    assert read(tmp_path / "out")["w"].tolist() == [258.0] * 4


def test_progress_reaches_the_end(tmp_path: Path, three: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    merge(recipe("linear", three), tmp_path / "out", on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]


def test_what_fails_in_the_middle_leaves_nothing(tmp_path: Path, three: list[Path]) -> None:
    def fail(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        merge(recipe("linear", three), tmp_path / "out", on_progress=fail)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_left_by_a_killed_merge_is_no_hindrance(tmp_path: Path, three: list[Path]) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/model.safetensors").write_bytes(b"half")
    merge(recipe("linear", three), tmp_path / "out")
    verify(tmp_path / "out")
    with pytest.raises(WeightsError, match="exists"):
        merge(recipe("linear", three), tmp_path / "out")


def test_a_type_too_narrow_is_named(tmp_path: Path) -> None:
    large = write(tmp_path / "a", {"w": torch.tensor([1.0, 1e5])})
    with pytest.raises(WeightsError, match=r"'w': not finite in torch\.float16"):
        merge(recipe("linear", [large, large], dtype="float16"), tmp_path / "out")


def changed(tensors: dict[str, Tensor], fault: str) -> dict[str, Tensor]:
    norm = "model.norm.weight"
    match fault:
        case "missing":
            return {name: tensor for name, tensor in tensors.items() if name != norm}
        case "shape":
            return {**tensors, norm: torch.randn(6)}
        case "integers":
            return {**tensors, "steps": tensors["steps"] + 1}
        case "nan":
            return {**tensors, norm: tensors[norm] * float("nan")}
        case _:
            return {**tensors, "lm_head.weight": torch.randn(3, 5)}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", r"'model\.norm\.weight' is missing"),
        ("shape", r"'model\.norm\.weight' is \(6,\)"),
        ("integers", "'steps'"),
        ("nan", r"'model\.norm\.weight': not finite"),
        ("untied", r"'lm_head\.weight' is missing.*tie the word embeddings"),
    ],
)
def test_inputs_that_do_not_fit_are_named(tmp_path: Path, fault: str, said: str) -> None:
    tensors = some_tensors()
    a, b = write(tmp_path / "a", tensors), write(tmp_path / "b", changed(tensors, fault))
    with pytest.raises(WeightsError, match=said):
        merge(recipe("linear", [a, b]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def save(model: KeyeForConditionalGeneration, processor: KeyeProcessor, folder: Path) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_real_model_merges_loads_and_runs(
    tmp_path: Path, processor: KeyeProcessor, model: KeyeForConditionalGeneration
) -> None:
    base = save(model, processor, tmp_path / "base")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    expert = save(model, processor, tmp_path / "expert")
    merge(recipe("task_arithmetic", [expert], base), tmp_path / "whole")
    merge(recipe("linear", [base, expert], dtype="bfloat16"), tmp_path / "half")

    def answer(folder: Path) -> Tensor:
        loaded, report = KeyeForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        encoded = KeyeProcessor.from_pretrained(folder).encode([{"role": "document", "content": "a blue shape"}])
        ids = torch.as_tensor(encoded.input_ids)[None]
        with torch.no_grad():
            return loaded.float()(ids, torch.as_tensor(encoded.position_ids)[:, None]).logits

    torch.testing.assert_close(answer(tmp_path / "whole"), answer(expert), rtol=1e-3, atol=1e-3)
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    halfway = read(tmp_path / "half")
    for name, tensor in read(expert).items():
        expected = ((before[name].float() + tensor.float()) / 2).bfloat16()
        torch.testing.assert_close(halfway[name], expected)
    assert answer(tmp_path / "half").isfinite().all()


def test_added_tokens_are_merged_by_token(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """a adds <one> <two>, b adds <two> <three>: the same rows mean different words."""
    size = len(tokenizer)
    folders = [tmp_path / name for name in ("base", "a", "b")]
    vocabs = [
        with_tokens(tokenizer, extra, folder)
        for extra, folder in zip((["<two>"], ["<one>", "<two>"], ["<two>", "<three>"]), folders, strict=True)
    ]
    tables = [torch.randn(size + 3, 4) for _ in folders]
    for folder, table in zip(folders, tables, strict=True):
        write(folder, {"model.embed_tokens.weight": table, "lm_head.weight": table * 2})
        (folder / "config.json").write_text(json.dumps({"text_config": {"vocab_size": size + 3}}))
    merge(recipe("task_arithmetic", folders[1:], folders[0]), tmp_path / "out")
    result = read(tmp_path / "out")["model.embed_tokens.weight"]
    vocab = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    assert {token: row for token, row in vocab.items() if token in vocabs[0]} == vocabs[0]

    def row(model: int, token: str) -> Tensor:
        return tables[model][vocabs[model][token]]

    two = row(1, "<two>") + row(2, "<two>") - row(0, "<two>")
    torch.testing.assert_close(result[vocab["<two>"]], two)
    torch.testing.assert_close(result[vocab["<one>"]], row(1, "<one>"))
    torch.testing.assert_close(result[vocab["<three>"]], row(2, "<three>"))
    torch.testing.assert_close(result[:size], tables[1][:size] + tables[2][:size] - tables[0][:size])
    torch.testing.assert_close(read(tmp_path / "out")["lm_head.weight"], result * 2)
    assert len(result) == size + 3 == max(vocab.values()) + 1


def test_a_vocabulary_that_outgrows_the_base_grows_the_matrix(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    size = len(tokenizer)
    for name, extra in (("base", []), ("a", ["<one>"]), ("b", ["<one>", "<two>"])):
        with_tokens(tokenizer, extra, tmp_path / name)
        write(tmp_path / name, {"model.embed_tokens.weight": torch.randn(size + len(extra), 4)})
        (tmp_path / name / "config.json").write_text(json.dumps({"text_config": {"vocab_size": size + len(extra)}}))
    folders = [tmp_path / "a", tmp_path / "b"]
    merge(recipe("ties", folders, tmp_path / "base"), tmp_path / "out")
    a, b, result = (read(tmp_path / name)["model.embed_tokens.weight"] for name in ("a", "b", "out"))
    assert len(result) == size + 2
    assert json.loads((tmp_path / "out/config.json").read_text())["text_config"]["vocab_size"] == size + 2
    torch.testing.assert_close(result[size], (a[size] + b[size]) / 2)  # both have <one>, the base has not
    torch.testing.assert_close(result[size + 1], b[size + 1])


@pytest.mark.parametrize("method", METHODS)
def test_a_token_that_a_model_lacks_and_padding_keep_the_bases_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, method: Method
) -> None:
    size = len(tokenizer)
    for name, extra in (("base", ["<one>"]), ("a", []), ("b", [])):
        with_tokens(tokenizer, extra, tmp_path / name)
        write(tmp_path / name, {"model.embed_tokens.weight": torch.randn(size + 5, 4)})
    base, a, b = (tmp_path / name for name in ("base", "a", "b"))
    merge(recipe(method, [base, a]) if method in BASELESS else recipe(method, [a, b], base), tmp_path / "out")
    before, result = (read(folder)["model.embed_tokens.weight"] for folder in (base, tmp_path / "out"))
    assert torch.equal(result[size:], before[size:])
    assert not torch.equal(result[:size], before[:size])


def test_tokenizers_of_other_words_are_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    for name in ("a", "b"):
        tokenizer.save_pretrained(tmp_path / name)
        write(tmp_path / name, {"model.embed_tokens.weight": torch.randn(len(tokenizer), 4)})
    path = tmp_path / "b/tokenizer.json"
    data = json.loads(path.read_text())
    vocab = data["model"]["vocab"]
    vocab["x"], vocab["y"] = vocab["y"], vocab["x"]
    path.write_text(json.dumps(data))
    with pytest.raises(WeightsError, match="token 'x' is not the same"):
        merge(recipe("linear", [tmp_path / "a", tmp_path / "b"]), tmp_path / "out")
    path.unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json"):
        merge(recipe("linear", [tmp_path / "a", tmp_path / "b"]), tmp_path / "out")


def test_a_matrix_too_small_for_its_tokenizer_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.save_pretrained(tmp_path / "a")
    write(tmp_path / "a", {"model.embed_tokens.weight": torch.randn(len(tokenizer) - 1, 4)})
    with pytest.raises(WeightsError, match="rows; resize"):
        merge(recipe("linear", [tmp_path / "a", tmp_path / "a"]), tmp_path / "out")


def test_the_tiny_preset_is_tied(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """What the merge of a real model above rests on: its folder has no lm_head.weight, and none is written."""
    build("tiny", tokenizer).save_pretrained(tmp_path / "model")
    assert "lm_head.weight" not in read(tmp_path / "model")


def test_a_merge_of_trained_folders_has_a_lineage_of_its_own(tmp_path: Path, three: list[Path]) -> None:
    """Else a stage that begins from it would take it for its base, and miss that it has changed."""
    recipes = [recipe("linear", models) for models in (three, three[:2])]
    before = {"stage": "sft", "step": 9, "preset": "tiny", "weights": "0" * 64}
    (recipes[0].reference / "lineage.json").write_text(json.dumps(before))
    found = []
    for number, one in enumerate(recipes):
        merge(one, tmp_path / f"out{number}")
        found.append(json.loads((tmp_path / f"out{number}/lineage.json").read_text()))
    assert all((one["stage"], one["step"], one["preset"]) == ("merge", 0, "tiny") for one in found)
    assert len({before["weights"], *(one["weights"] for one in found)}) == 3
