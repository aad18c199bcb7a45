"""Checkpoints out and in again, bit for bit; and a start from real SigLIP and Qwen3 folders, tiny and random."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from model.checkpoint import (
    ARCHITECTURE,
    CheckpointError,
    export_checkpoint,
    import_checkpoint,
    start_checkpoint,
)
from model.modeling import KeyeForConditionalGeneration
from model.processing import KeyeProcessor
from model.tokenizer import train_bpe
from model.weights import WeightsError
from tests.model.conftest import TEXTS
from tests.model.test_modeling import inputs, samples


@pytest.fixture
def saved(model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path) -> Path:
    model.reset_rope(8e6, 4096)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exported_then_imported_is_itself(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path, dtype: torch.dtype
) -> None:
    model.reset_rope(8e6, 4096)
    model.to(dtype).save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    out = export_checkpoint(tmp_path / "saved", tmp_path / "published")
    back = import_checkpoint(tmp_path / "published", tmp_path / "back")
    assert (out.taken, out.parameters) == (back.taken, back.parameters)
    assert out.parameters == sum(p.numel() for p in model.parameters())
    assert back.verified and not out.verified
    tensors = inputs(processor.batch(samples(processor)))
    for folder in ("published", "back"):
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / folder, dtype="auto").eval()
        state = loaded.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(loaded(**tensors).logits, model(**tensors).logits)
        assert loaded.config.text_config.rope_parameters == model.config.text_config.rope_parameters
        assert loaded.config.rope_resets == model.config.rope_resets
        assert loaded.generation_config.suppress_tokens == model.generation_config.suppress_tokens
        assert AutoProcessor.from_pretrained(tmp_path / folder).budget == processor.budget


def test_the_published_form(saved: Path, tmp_path: Path) -> None:
    export_checkpoint(saved, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [ARCHITECTURE] and config["model_type"] == "KeyeVL1_5"
    assert config["hidden_size"] == 128 and config["rope_theta"] == 8e6 and config["max_position_embeddings"] == 4096
    assert config["rope_scaling"] == {"type": "default", "mrope_section": [4, 6, 6]}
    checksums = json.loads((tmp_path / "out/checksums.json").read_text())
    tensors = load_file(tmp_path / "out/model.safetensors")
    assert checksums.keys() == tensors.keys()
    assert {name.split(".")[0] for name in tensors} == {"visual", "mlp_AR", "model"}  # the output layer is tied


def rewritten(folder: Path, change: object) -> Path:
    """The folder with its tensors changed by `change`, and without checksums."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


EMBED = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("mlp_AR.linear_2.bias"), r"checkpoint lacks mlp_AR\.linear_2\.bias \(1 such"),
        (lambda tensors: tensors.update(odd=torch.zeros(1)), r"model has no place for odd \(1 such"),
        (lambda tensors: tensors.update({EMBED: tensors[EMBED][:-1].clone()}), r"embed_tokens\.weight: shape"),
    ],
)
def test_names_and_shapes_are_held_both_ways(saved: Path, tmp_path: Path, change: object, message: str) -> None:
    rewritten(saved, change)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(saved, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_published_checkpoints_hold_besides_is_listed(saved: Path, tmp_path: Path) -> None:
    names = [
        "visual.vision_model.embeddings.packing_position_embedding.weight",
        "visual.vision_model.head.probe",
    ]
    rewritten(saved, lambda tensors: tensors.update({name: torch.zeros(2) for name in names}))
    found = import_checkpoint(saved, tmp_path / "out")
    assert found.unused == names
    assert any(names[0] in line for line in found.lines())
    assert not set(names) & load_file(tmp_path / "out/model.safetensors").keys()


def test_a_flipped_bit_is_found(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_checkpoint(saved, out)
    data = bytearray((out / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (out / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"visual\.vision_model\..* differs from its checksum"):
        import_checkpoint(out, tmp_path / "back")


def test_other_models_and_taken_folders_are_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        import_checkpoint(tmp_path / "empty", tmp_path / "out")
    qwen(tmp_path / "qwen", tied=False)
    with pytest.raises(CheckpointError, match="model_type 'qwen3'"):
        import_checkpoint(tmp_path / "qwen", tmp_path / "out")
    with pytest.raises(CheckpointError, match="exists already"):
        export_checkpoint(saved, tmp_path / "empty")


def siglip(folder: Path, kind: str) -> dict[str, torch.Tensor]:
    """A random SigLIP of the whole model's class or of its vision tower's."""
    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = SiglipVisionConfig(**sizes, image_size=56, patch_size=14)
    whole = kind == "siglip"
    text = {**sizes, "vocab_size": 40, "projection_size": 48}
    built = (
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision.to_dict()))
        if whole
        else SiglipVisionModel(vision)
    )
    built.save_pretrained(folder)
    state = built.state_dict()
    tower = {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in tower.items() if name.startswith(("embed", "encoder", "post"))}


def qwen(folder: Path, *, tied: bool, rows: int = 330) -> Qwen3ForCausalLM:
    """A random Qwen3 with a tokenizer that has none of our tokens but two."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    plain.add_special_tokens(["<|im_end|>", "<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=rows, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    built = Qwen3ForCausalLM(config).to(torch.bfloat16)
    built.save_pretrained(folder)
    return built


@pytest.mark.parametrize(("kind", "tied", "rows"), [("siglip", False, 330), ("vision", True, 258)])
def test_a_start_has_both_models_weights(tmp_path: Path, kind: str, tied: bool, rows: int) -> None:
    """The tower's and the language model's tensors are theirs; text alone gives Qwen3's own logits."""
    tower, language = siglip(tmp_path / "siglip", kind), qwen(tmp_path / "qwen", tied=tied, rows=rows)
    found = start_checkpoint(tmp_path / "siglip", tmp_path / "qwen", tmp_path / "start", preset="tiny")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "start", dtype="auto").eval()
    state = loaded.state_dict()
    assert found.parameters == sum(p.numel() for p in loaded.parameters())
    for name, tensor in tower.items():
        assert torch.equal(state[f"visual.vision_model.{name}"], tensor.to(torch.bfloat16))
    for name, tensor in language.state_dict().items():
        known = tensor[:258] if "embed" in name or "lm_head" in name else tensor
        assert torch.equal(state[name][: len(known)], known)
    new = state["model.embed_tokens.weight"][258:]
    mean = language.model.embed_tokens.weight[:258].float().mean(dim=0).to(torch.bfloat16)
    assert len(new) >= 20 and bool((new == mean).all())
    assert loaded.config.text_config.rope_parameters["mrope_section"] == [4, 6, 6]
    ids = torch.randint(0, 258, (1, 9))
    theirs = Qwen3ForCausalLM.from_pretrained(tmp_path / "qwen", dtype=torch.float32)(ids).logits
    torch.testing.assert_close(loaded.float()(ids).logits[..., :258], theirs[..., :258], rtol=1e-5, atol=1e-6)
    prompt = AutoProcessor.from_pretrained(tmp_path / "start")("hm<|im_end|>")
    assert loaded.generate(**prompt, max_new_tokens=2).shape[1] > prompt["input_ids"].shape[1]


def test_a_start_refuses_what_is_not_a_siglip_or_a_qwen3(tmp_path: Path) -> None:
    siglip(tmp_path / "siglip", "vision")
    qwen(tmp_path / "qwen", tied=False)
    with pytest.raises(CheckpointError, match="model_type 'qwen3', wanted siglip"):
        start_checkpoint(tmp_path / "qwen", tmp_path / "qwen", tmp_path / "out")
    with pytest.raises(CheckpointError, match="wanted qwen3"):
        start_checkpoint(tmp_path / "siglip", tmp_path / "siglip", tmp_path / "out")
    tensors = load_file(tmp_path / "siglip/model.safetensors")
    gone = next(name for name in tensors if name.endswith("encoder.layers.1.mlp.fc1.bias"))
    rewritten(tmp_path / "siglip", lambda found: found.pop(gone))
    with pytest.raises(CheckpointError, match=r"neither folder has a tensor for .*layers\.1\.mlp\.fc1\.bias"):
        start_checkpoint(tmp_path / "siglip", tmp_path / "qwen", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    train_bpe(TEXTS, 330, tmp_path / "tokenizer")
    assert AutoConfig.from_pretrained(tmp_path / "qwen").model_type == "qwen3"
