"""Keye-VL-1.5: vision tower, projector and language model in one `PreTrainedModel`.

State-dict keys are the published checkpoint's: `visual.vision_model.*`, `mlp_AR.*`, `model.*`, `lm_head.*`.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SuppressTokensLogitsProcessor,
)
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from model.configuration import KeyeConfig
from model.head import LanguageHead
from model.language import attention_inputs, build_language_model
from model.projector import KeyeProjector
from model.rope import batch_position_ids, split_grids
from model.vision import KeyeVisionModel
from model.visual_tokens import (
    CONTROL_TOKENS,
    END_OF_TEXT,
    IM_END,
    IMAGE_PAD,
    SPECIAL_TOKENS,
    VIDEO_PAD,
    load_preset,
)

IGNORED = -100
"""The label of a token that is no target."""


@dataclass
class KeyeOutput(ModelOutput):  # type: ignore[misc]
    """`loss` is the mean over `num_targets` targets, so their product is the sum.

    `logits` [B, L, V] only without labels: with labels they are formed at the targets alone and not kept,
    since at 128K tokens and 152K words the whole would take 80 GB. `rope_deltas` [B, 1] only where the model
    counted positions itself: a loop that decodes with the cache hands them back.
    """

    loss: Tensor | None = None
    num_targets: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    rope_deltas: Tensor | None = None


class KeyeForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Text, images and slow-fast video in, text out."""

    config_class = KeyeConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ("Qwen3DecoderLayer", "KeyeVisionLayer")
    _supports_sdpa = True
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: KeyeConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.visual = KeyeVisionModel(config.vision_config)
        self.mlp_AR = KeyeProjector(config.vision_config, text.hidden_size)
        self.model = build_language_model(text)
        self.lm_head: nn.Module = LanguageHead(text.hidden_size, text.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens  # type: ignore[no-any-return]

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def reset_rope(self, base: float, context: int | None = None) -> None:
        """Sets the base of the language model's rotary angles, and its context where given (report, stage 3).

        Weights stay, and so does the vision tower's base. The rotary embedding reads its base from the config at
        every call, so nothing else is to be derived anew. `config.rope_resets` records what was done.
        """
        text = self.config.text_config
        before = {"rope_theta": text.rope_parameters["rope_theta"], "context": text.max_position_embeddings}
        after = {"rope_theta": float(base), "context": context or text.max_position_embeddings}
        if before == after:
            return
        text.rope_parameters = {**text.rope_parameters, "rope_theta": float(base)}
        text.max_position_embeddings = after["context"]
        self.config.rope_resets = [*(self.config.rope_resets or []), {"from": before, "to": after}]

    def visual_features(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        """Language-model embeddings [P / 4, D] of packed patches, a row of `grid_thw` per image or frame.

        Frozen parts keep no activations: autograd is off for them.
        """
        grids = [(rows, columns) for _, rows, columns in grid_thw.tolist()]
        with torch.set_grad_enabled(torch.is_grad_enabled() and _trains(self.visual)):
            features = self.visual(pixel_values, grids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (features.requires_grad or _trains(self.mlp_AR))):
            return self.mlp_AR(features, grids)  # type: ignore[no-any-return]

    def is_visual(self, input_ids: Tensor) -> Tensor:
        """Where `input_ids` are placeholders of images or videos."""
        return (input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)  # type: ignore[no-any-return]

    def embed(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        grid_thw: Tensor | None = None,
        visual_embeds: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [B, L, D]; those of placeholders are the visual features, in order.

        Raises ValueError that names the row and both counts when there are not as many features as placeholders.
        """
        embeds = self.get_input_embeddings()(input_ids)
        is_visual = self.is_visual(input_ids)
        if visual_embeds is None:
            grids = torch.empty(0, 3, dtype=torch.int64) if pixel_values is None or grid_thw is None else grid_thw
            split_grids(is_visual.sum(dim=1).tolist(), grids.cpu().numpy(), self.mlp_AR.merge)
            if pixel_values is None or len(grids) == 0:
                return embeds + self._nothing_shown() if self.training else embeds  # type: ignore[no-any-return]
            visual_embeds = self.visual_features(pixel_values, grids)
        elif int(is_visual.sum()) != len(visual_embeds):
            raise ValueError(f"{int(is_visual.sum())} visual placeholders, {len(visual_embeds)} visual_embeds")
        return embeds.masked_scatter(is_visual[..., None], visual_embeds.to(embeds.dtype))  # type: ignore[no-any-return]

    def positions(
        self, input_ids: Tensor, grid_thw: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`position_ids` [3, B, L] of whole rows and their `rope_deltas` [B, 1] (see `model.rope`).

        `attention_mask` [B, L] marks padding. Raises ValueError as `embed` does.
        """
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        grids = torch.empty(0, 3, dtype=torch.int64) if grid_thw is None else grid_thw
        is_visual, is_real = self.is_visual(input_ids).cpu().numpy(), real.bool().cpu().numpy()
        found, deltas = batch_position_ids(is_visual, is_real, grids.cpu().numpy(), self.mlp_AR.merge)
        device = input_ids.device
        return torch.from_numpy(found).to(device), torch.from_numpy(deltas)[:, None].to(device)

    def _nothing_shown(self) -> Tensor:
        """Zero, but a zero that vision tower and projector took part in.

        Where many processes train together they gather weights and reduce gradients in step: one whose rows show
        nothing must go the same way as the others, or they wait for it.
        """
        parameter = next(self.visual.parameters())
        side, merge = self.config.vision_config.patch_size, self.mlp_AR.merge
        blank = torch.zeros(merge**2, 3, side, side, dtype=parameter.dtype, device=parameter.device)
        return 0.0 * self.visual_features(blank, torch.tensor([[1, merge, merge]])).sum()

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        segment_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        grid_thw: Tensor | None = None,
        visual_embeds: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Cache | None = None,
        rope_deltas: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> KeyeOutput:
        """One pass over `input_ids` [B, L] at `position_ids` [3, B, L].

        `segment_ids` [B, L] (0 = padding) makes rows of several samples that do not see each other.
        `labels` [B, L] are aligned with `input_ids` (-100 = no target); the shift happens here.
        `visual_embeds` [F, D] stand in for `pixel_values`: features encoded before, as `visual_features` makes
        them. Without `position_ids` they are counted here, or continued from `rope_deltas` where there is a
        cache. With `num_items_in_batch`, which transformers' Trainer gives, the loss is the sum over this pass's
        targets divided by it. Further keywords (`output_hidden_states`, ...) are Qwen3's.
        """
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("pass input_ids, or inputs_embeds with position_ids")
            inputs_embeds = self.embed(input_ids, pixel_values, grid_thw, visual_embeds)
        deltas = None
        if position_ids is None and past:
            position_ids = _continued(past, inputs_embeds, rope_deltas)
        elif position_ids is None:
            if input_ids is None or segment_ids is not None:
                raise ValueError("packed rows and inputs_embeds need position_ids: the processor makes them")
            position_ids, deltas = self.positions(input_ids, grid_thw, attention_mask)
        attention = attention_inputs(self.model.config, inputs_embeds, attention_mask, segment_ids, past_key_values)
        output = self.model(
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache if labels is None and segment_ids is None else False,
            **attention,
            **kwargs,
        )
        hidden = output.last_hidden_state
        if labels is None:
            logits = self.lm_head(hidden[:, -logits_to_keep:])
            return KeyeOutput(None, None, logits, output.past_key_values, output.hidden_states, deltas)
        loss, num_targets = self.loss(hidden, shift_labels(labels, segment_ids))
        if num_items_in_batch is not None:
            loss = loss * num_targets / num_items_in_batch
        return KeyeOutput(loss, num_targets, hidden_states=output.hidden_states)

    def loss(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of `hidden` [B, L, D] against next tokens `targets` [B, L], and their number."""
        is_target = targets != IGNORED
        num_targets = is_target.sum()
        if isinstance(self.lm_head, LanguageHead):
            total = self.lm_head(hidden[is_target], targets[is_target])
        else:  # transformers has resized it, or an adapter has wrapped it
            total = cross_entropy(self.lm_head(hidden[is_target]).float(), targets[is_target], reduction="sum")
        return total / num_targets.clamp(min=1), num_targets

    def generate(self, *args: Any, logits_processor: LogitsProcessorList | None = None, **kwargs: Any) -> Any:
        """transformers' `generate`, which here never writes a placeholder, whatever the generation config says.

        A placeholder among the answer's tokens would ask for an image that nobody has shown.
        """
        ban = _NoPlaceholders([self.config.image_token_id, self.config.video_token_id], device=self.device)
        processors = LogitsProcessorList([ban, *(logits_processor or [])])
        return super().generate(*args, logits_processor=processors, **kwargs)

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """Where the caller gives none: the three axes, instead of transformers' count of tokens."""
        ids = model_kwargs.get("input_ids", inputs_tensor)
        return self.positions(ids, model_kwargs.get("grid_thw"), model_kwargs.get("attention_mask"))[0]

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Beams and several answers to a prompt share its visual features: they are encoded once."""
        features = None
        if expand_size > 1 and input_ids is not None and model_kwargs.get("pixel_values") is not None:
            encoded = self.visual_features(model_kwargs.pop("pixel_values"), model_kwargs.pop("grid_thw"))
            parts = torch.split(encoded, self.is_visual(input_ids).sum(dim=1).tolist())
            features = torch.cat([part.repeat(expand_size, 1) for part in parts])
        ids, expanded = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return ids, expanded if features is None else {**expanded, "visual_embeds": features}

    def prepare_inputs_for_generation(
        self, *args: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Once pictures are in the cache, they are not shown again."""
        if not is_first_iteration and kwargs.get("use_cache", True):
            kwargs = {**kwargs, "visual_embeds": None, "grid_thw": None}
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            *args, is_first_iteration=is_first_iteration, **kwargs
        )
        return inputs


class _NoPlaceholders(SuppressTokensLogitsProcessor):  # type: ignore[misc]
    """A type of its own: one of transformers' would take the place of the generation config's."""


def _continued(past: int, inputs_embeds: Tensor, rope_deltas: Tensor | None) -> Tensor:
    """Positions [3, B, L] of tokens after `past` ones in the cache."""
    if rope_deltas is None:
        raise ValueError("decoding with a cache needs position_ids, or the rope_deltas that the first pass returned")
    batch, length = inputs_embeds.shape[:2]
    index = torch.arange(past, past + length, device=inputs_embeds.device)
    return (index + rope_deltas.to(index.device)).expand(3, batch, length)


def shift_labels(labels: Tensor, segment_ids: Tensor | None) -> Tensor:
    """The target [B, L] that each position predicts: the next label, where it is of the same segment."""
    targets = pad(labels[:, 1:], (0, 1), value=IGNORED)
    if segment_ids is None:
        return targets
    following = pad(segment_ids[:, 1:], (0, 1), value=0)
    return targets.masked_fill(following != segment_ids, IGNORED)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def config_of(preset: str, **overrides: Any) -> KeyeConfig:
    """A preset's configuration; `vocab_size` in `overrides` stands in for a preset without its own."""
    data = deepcopy(load_preset(preset))  # the presets are read once; a configuration may be changed
    vocab_size = overrides.pop("vocab_size", 8192)
    text = {"vocab_size": vocab_size, "max_position_embeddings": data["context"], **data["text"]}
    tie = text.get("tie_word_embeddings", False)
    return KeyeConfig(vision_config=data["vision"], text_config=text, tie_word_embeddings=tie, **overrides)


def build(preset: str, tokenizer: PreTrainedTokenizerBase) -> KeyeForConditionalGeneration:
    """A model of `preset` for `tokenizer`, freshly initialised (float32, on the default device).

    The vocabulary is the tokenizer's unless the preset sets it. Its `generate` stops at the end of a turn
    or text and never writes a control token besides.
    Raises ValueError when the tokenizer lacks a special token or has more tokens than the preset.
    """
    vocab = tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise ValueError(f"tokenizer lacks {missing[0]}: load it with model.tokenizer.load_tokenizer")
    ids = {"image_token_id": vocab[IMAGE_PAD], "video_token_id": vocab[VIDEO_PAD]}
    config = config_of(preset, vocab_size=len(tokenizer), **ids)
    if len(tokenizer) > config.text_config.vocab_size:
        raise ValueError(
            f"tokenizer has {len(tokenizer)} tokens, preset {preset} room for {config.text_config.vocab_size}"
        )
    model = KeyeForConditionalGeneration(config)
    model.generation_config = generation_config(tokenizer)
    return model


def generation_config(tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Stops at the end of a turn or of the text, and writes no control token besides."""
    ends = tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT])
    control = tokenizer.convert_tokens_to_ids(list(CONTROL_TOKENS))
    suppressed = [token for token in control if token not in ends]
    return GenerationConfig(eos_token_id=ends, pad_token_id=ends[1], suppress_tokens=suppressed)


AutoConfig.register(KeyeConfig.model_type, KeyeConfig)
AutoModel.register(KeyeConfig, KeyeForConditionalGeneration)
AutoModelForImageTextToText.register(KeyeConfig, KeyeForConditionalGeneration)
