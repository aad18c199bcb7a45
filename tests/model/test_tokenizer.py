"""The trained tokenizer: lossless, deterministic, and with every special token in one piece."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from model.tokenizer import THINK_TOKENS, load_tokenizer, train_bpe
from model.visual_tokens import SPECIAL_TOKENS
from tests.model.conftest import TEXTS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Mn", "Mc"]), max_size=60))
def test_text_survives(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    import unicodedata

    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_every_special_token_is_one_id(tokenizer: PreTrainedTokenizerBase) -> None:
    for token in (*SPECIAL_TOKENS, *THINK_TOKENS):
        assert len(tokenizer(f"a{token}b")["input_ids"]) == 3
    assert len(set(tokenizer.convert_tokens_to_ids([*SPECIAL_TOKENS, *THINK_TOKENS]))) == 24


def test_thoughts_are_text_and_marks_are_not(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("<think>so</think>no<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>so</think>no"


def test_every_digit_is_its_own_token(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("1207.5") == ["1", "2", "0", "7", ".", "5"]


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_bpe(iter(TEXTS * 3), 420, tmp_path / name)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_a_saved_folder_loads_unchanged(tmp_path: Path) -> None:
    trained = train_bpe(TEXTS, 330, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert len(loaded) == len(trained) <= 330
    assert loaded.get_vocab() == trained.get_vocab()
    assert loaded.chat_template == trained.chat_template
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_a_tokenizer_without_our_tokens_gets_them_at_the_end(tmp_path: Path) -> None:
    """Stands for a Qwen3 folder: its ids stay, what it lacks is added."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    plain.add_special_tokens(["<|im_end|>"])
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.convert_tokens_to_ids("<|im_end|>") == 256
    assert set(SPECIAL_TOKENS) <= set(loaded.get_vocab())
    assert len(loaded) == 256 + len(SPECIAL_TOKENS) + len(THINK_TOKENS)


def test_bad_input_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size 200: at least"):
        train_bpe(TEXTS, 200, tmp_path)
    with pytest.raises(ValueError, match=r"no tokenizer_config\.json"):
        load_tokenizer(tmp_path)
