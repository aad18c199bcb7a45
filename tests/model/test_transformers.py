"""The model among transformers' own tools: auto classes, checkpointing of activations, LoRA, device maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from model.configuration import KeyeConfig
from model.modeling import KeyeForConditionalGeneration
from model.processing import KeyeProcessor, ProcessingError
from tests.model.test_modeling import inputs, pictures, samples


@pytest.fixture
def saved(model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_the_auto_classes_know_it(saved: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(saved), KeyeConfig)
    assert isinstance(AutoModel.from_pretrained(saved), KeyeForConditionalGeneration)
    assert isinstance(AutoModelForImageTextToText.from_pretrained(saved), KeyeForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(saved), KeyeProcessor)


@torch.no_grad()
def test_the_usual_lines_answer_a_question(saved: Path) -> None:
    """What a user of transformers writes, with a PIL picture in the messages."""
    processor = AutoProcessor.from_pretrained(saved)
    model = AutoModelForImageTextToText.from_pretrained(saved)
    picture = Image.fromarray(pictures(1)[0])
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": parts}]
    tensors = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    called = processor(text=prompt, images=[picture], return_tensors="pt", padding=True)
    assert torch.equal(tensors["input_ids"], called["input_ids"])
    assert torch.equal(tensors["pixel_values"], called["pixel_values"])
    out = model.generate(**tensors, max_new_tokens=4, do_sample=False)
    assert out.shape[1] > tensors["input_ids"].shape[1]


def test_a_prompt_is_never_cut(processor: KeyeProcessor) -> None:
    prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
    length = processor(prompt, pictures(1))["input_ids"].shape[1]
    assert processor(prompt, pictures(1), max_length=length)["input_ids"].shape[1] == length
    with pytest.raises(ProcessingError, match=f"prompt 1: {length} tokens, max_length is {length - 1}"):
        processor(["What?", prompt], pictures(1), max_length=length - 1)
    with pytest.raises(ProcessingError, match="never cut"):
        processor(prompt, pictures(1), max_length=9, truncation=True)


def gradients(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**tensors).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("frozen", [False, True])
def test_checkpointed_activations_give_the_same_gradients(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, frozen: bool
) -> None:
    """Of all parameters, and of the projector between two frozen towers."""
    if frozen:
        model.requires_grad_(False)
        model.mlp_AR.requires_grad_(True)
    tensors = processor.pack([samples(processor)], 400)
    model.train()
    expected = gradients(model, tensors)
    model.gradient_checkpointing_enable()
    calls: list[int] = []
    layers = [model.model.layers[0].mlp, model.visual.vision_model.encoder.layers[0].mlp]
    hooks = [
        layer.register_forward_pre_hook(lambda *_, place=place: calls.append(place))
        for place, layer in enumerate(layers)
    ]
    found = gradients(model, tensors)
    for hook in hooks:
        hook.remove()
    assert calls.count(0) == 2 and calls.count(1) == (1 if frozen else 2)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_lora_trains_its_own_weights_alone_and_merges_exactly(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path
) -> None:
    tensors = processor.batch(samples(processor))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0))
    optimizer = torch.optim.AdamW([p for p in lora.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = lora(**tensors).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    lora.eval()
    prompt = inputs(processor.batch(samples(processor, labels=False, generation_prompt=True), padding_side="left"))
    with torch.no_grad():
        adapted = lora(**prompt).logits
        written = lora.generate(**prompt, max_new_tokens=3, do_sample=False)
    lora.save_pretrained(tmp_path)
    base = KeyeForConditionalGeneration(model.config).eval()
    base.load_state_dict(before)
    merged = PeftModel.from_pretrained(base, tmp_path).merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(merged(**prompt).logits, adapted, rtol=0, atol=1e-4)
    assert written.shape[0] == 4


@torch.no_grad()
@pytest.mark.parametrize("on_disk", [(), ("visual", "mlp_AR", "model.layers")])
def test_a_device_map_changes_no_logit(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, saved: Path, on_disk: tuple[str, ...]
) -> None:
    """Parts that lie on disk come into memory as they are called, the position table among them."""
    tensors = inputs(processor.batch(samples(processor)))
    parts = ("visual", "mlp_AR", "model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head")
    device_map = {part: "disk" if part in on_disk else "cpu" for part in parts}
    offload = saved / "offload"
    loaded = KeyeForConditionalGeneration.from_pretrained(saved, device_map=device_map, offload_folder=str(offload))
    assert torch.equal(loaded.eval()(**tensors).logits, model(**tensors).logits)


@torch.no_grad()
def test_half_precision_keeps_angles_in_float32(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, saved: Path
) -> None:
    """However the model came to bf16: in bf16 the positions past a few hundred would be off by whole tokens."""
    far = torch.tensor([100_001])[:, None].expand(3, 1, 1)
    expected = model.model.rotary_emb(torch.zeros(1), far)
    cast = KeyeForConditionalGeneration.from_pretrained(saved).to(torch.bfloat16)
    loaded = KeyeForConditionalGeneration.from_pretrained(saved, dtype=torch.bfloat16)
    for half in (cast, loaded):
        found = half.model.rotary_emb(torch.zeros(1), far)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        tensors = inputs(processor.batch(samples(processor)))
        assert half(**tensors).logits.dtype == torch.bfloat16


def test_a_reset_of_the_base_reaches_every_angle_and_is_recorded(
    model: KeyeForConditionalGeneration, tmp_path: Path
) -> None:
    """Closed form; then again from the saved folder, and from a model made on the meta device."""
    model.reset_rope(8e6, context=131_072)
    model.save_pretrained(tmp_path)
    loaded = KeyeForConditionalGeneration.from_pretrained(tmp_path)
    for one in (model, loaded):
        expected = torch.tensor([8e6 ** (-2 * pair / 32) for pair in range(16)])
        torch.testing.assert_close(one.model.rotary_emb.frequencies(), expected)
        assert one.config.text_config.max_position_embeddings == 131_072
        (record,) = one.config.rope_resets
        assert record["from"] == {"rope_theta": 10_000.0, "context": 1024}
        assert record["to"] == {"rope_theta": 8e6, "context": 131_072}
    assert model.config.vision_config.rope_theta == 10_000.0
    assert not [name for name, _ in model.named_buffers() if "freq" in name]
    model.reset_rope(8e6)
    assert len(model.config.rope_resets) == 1


@pytest.mark.parametrize("tied", [True, False])
def test_a_resized_vocabulary_keeps_the_loss(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, tied: bool
) -> None:
    """Closed form from the logits of all words, old and new; the loss grows by the share that the new ones take."""
    if not tied:
        config = model.config.__class__(**{**model.config.to_dict(), "tie_word_embeddings": False})
        config.text_config.tie_word_embeddings = False
        untied = KeyeForConditionalGeneration(config).eval()
        untied.load_state_dict(model.state_dict())
        model = untied
    tensors = processor.batch(samples(processor))
    before = model(**tensors).loss
    words = len(model.get_input_embeddings().weight)
    model.resize_token_embeddings(words + 8)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        head[words:] = 0
    scored = model(**inputs(tensors)).logits
    labels = tensors["labels"][:, 1:]
    picked = scored[:, :-1].log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(model(**tensors).loss, -picked[labels != -100].mean())
    assert head.shape[0] == words + 8 and model(**tensors).loss > before


def test_lora_on_the_output_layer_has_the_right_loss(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor
) -> None:
    tensors = processor.batch(samples(processor))
    before = model(**tensors).loss.detach()
    lora = get_peft_model(model, LoraConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    loss = lora(**tensors).loss
    torch.testing.assert_close(loss.detach(), before)
    loss.backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in lora.parameters()) == 1


def test_the_trainer_counts_targets_over_accumulated_steps(
    model: KeyeForConditionalGeneration, processor: KeyeProcessor, tmp_path: Path
) -> None:
    """transformers' Trainer: four samples in one batch, or one by one, change the weights alike."""
    from copy import deepcopy

    from transformers import Trainer, TrainingArguments

    encoded = samples(processor)[:2]
    targets = [one.num_targets for one in encoded]
    encoded[1].labels[:] = np.where(np.arange(len(encoded[1])) % 2, encoded[1].labels, -100)
    assert targets[0] != encoded[1].num_targets > 0
    found = []
    for size in (2, 1):
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(size)), per_device_train_batch_size=size, max_steps=1, optim="sgd",
            gradient_accumulation_steps=2 // size, learning_rate=1.0, max_grad_norm=1e9, use_cpu=True,
            lr_scheduler_type="constant", report_to=[], save_strategy="no", remove_unused_columns=False,
            disable_tqdm=True,
        )  # fmt: skip
        trained = deepcopy(model)
        Trainer(trained, arguments, data_collator=processor.batch, train_dataset=encoded).train()
        found.append({name: p - q for (name, p), q in zip(trained.named_parameters(), model.parameters(), strict=True)})
    for name, change in found[0].items():
        torch.testing.assert_close(found[1][name], change, rtol=1e-3, atol=1e-5)
    assert max(float(change.abs().max()) for change in found[0].values()) > 1e-3
