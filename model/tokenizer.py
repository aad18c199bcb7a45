"""Tokenizers: a byte-level BPE trained here, or a Qwen3 folder with Keye's special tokens added."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from model.visual_tokens import END_OF_TEXT, IM_END, SPECIAL_TOKENS

THINK_TOKENS = ("<think>", "</think>")
"""Single tokens, but text: decoding without special tokens keeps them, as in Qwen3."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where words end, as in Qwen: no token crosses these borders, and every digit is its own token."""

CHAT_TEMPLATE = """\
{%- set suffix = {'think': '/think', 'no_think': '/no_think'}.get(thinking, '') -%}
{%- set turn = namespace(last=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set turn.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- macro parts(content, suffix) -%}
{%- if content is string -%}{{ content + suffix }}{%- else -%}
{%- set text = namespace(last=-1) -%}
{%- for part in content -%}
{%- if part.type == 'text' -%}{%- set text.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for part in content -%}
{%- if part.type == 'text' -%}{{ part.text + (suffix if loop.index0 == text.last else '') }}
{%- else -%}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>
{%- endif -%}
{%- endfor -%}{{ suffix if text.last == -1 else '' }}{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- set switch = suffix if loop.index0 == turn.last else '' -%}
{%- if message.role == 'document' -%}
{%- if loop.previtem is defined and loop.previtem.role != 'document' -%}<|endoftext|>{%- endif -%}
{{ parts(message.content, '') }}<|endoftext|>
{%- else -%}{{ '<|im_start|>' + message.role + '\\n' + parts(message.content, switch) + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""ChatML without a default system turn; content is a string or a list of text, image and video parts.

`thinking="think"` or `"no_think"` ends the last text of the last user turn with that mode's suffix.
"""


def train_bpe(texts: Iterable[str], vocab_size: int, out: Path) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE of at most `vocab_size` tokens in all and saves it to the folder `out`.

    The same texts give the same tokenizer. Raises ValueError when `vocab_size` has no room for the 256
    bytes and the special tokens.
    """
    extra = [*(AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS)]
    extra += [AddedToken(token, special=False, normalized=False) for token in THINK_TOKENS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + len(extra):
        raise ValueError(
            f"vocab_size {vocab_size}: at least {len(alphabet) + len(extra)}, for bytes and special tokens"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(extra), initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(extra)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=IM_END, pad_token=END_OF_TEXT, chat_template=CHAT_TEMPLATE
    )
    fast.save_pretrained(out)
    return fast


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder` (ours, or a Qwen3 one), with every special token and the chat template.

    Raises ValueError when the folder holds no tokenizer.
    """
    if not (Path(folder) / "tokenizer_config.json").is_file():
        raise ValueError(f"{folder}: no tokenizer_config.json; train one with model.tokenizer.train_bpe")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocab = tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
    tokenizer.add_tokens([token for token in THINK_TOKENS if token not in vocab])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
