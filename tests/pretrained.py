"""Tiny models of the paper's architectures, on disk as the hub has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def w2v_bert(folder: Path) -> str:
    """A speech encoder of w2v-BERT 2.0's class: two layers, frames of 20 ms."""
    import torch
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(1)
    config = Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        output_hidden_size=32, conv_depthwise_kernel_size=15,
    )  # fmt: skip
    Wav2Vec2BertModel(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    return str(folder)


def llama(folder: Path, texts: Iterable[str]) -> str:
    """A causal LM of LLaMA 3.2's class with tied embeddings and its kind of tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|begin_of_text|>"),
        eos_token_id=tokenizer.token_to_id("<|end_of_text|>"),
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def hifigan(folder: Path) -> str:
    """A mel vocoder of SpeechT5's class."""
    import torch
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(3)
    config = SpeechT5HifiGanConfig(
        upsample_initial_channel=16, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]]
    )
    SpeechT5HifiGan(config).save_pretrained(folder)
    return str(folder)


SPELLINGS = {"colours": "colors", "colour": "color", "analyse": "analyze"}


def whisper(folder: Path, *, multilingual: bool = True, spellings: bool = True) -> Path:
    """A randomly initialised Whisper of windows of 1 s, which writes bytes."""
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    special = [
        "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>",
        "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
    ]  # fmt: skip
    folder.mkdir(parents=True)
    vocabulary = {char: i for i, char in enumerate(bytes_to_unicode().values())}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary,
        merges=[],
        additional_special_tokens=special[1:],
    )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    torch.manual_seed(5)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), d_model=32, num_mel_bins=80, max_source_positions=50,
            max_target_positions=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=64,
            decoder_ffn_dim=64, encoder_attention_heads=2, decoder_attention_heads=2, init_std=0.6,
            pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"],
            eos_token_id=ids["<|endoftext|>"], suppress_tokens=None, begin_suppress_tokens=None,
            decoder_start_token_id=ids["<|startoftranscript|>"],
        )
    )  # fmt: skip
    settings = model.generation_config
    settings._from_model_config = False  # else what only Whisper has is not loaded
    settings.is_multilingual = multilingual
    settings.lang_to_id = {"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]}
    settings.task_to_id = {t: ids[f"<|{t}|>"] for t in ("transcribe", "translate")}
    settings.no_timestamps_token_id = ids["<|notimestamps|>"]
    # Printable text alone: random models love bytes that are none.
    settings.suppress_tokens = [*range(1, 10), *range(60, 260)]
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=1), tokenizer).save_pretrained(folder)
    if spellings:  # on the hub, beside the tokenizer
        (folder / "normalizer.json").write_text(json.dumps(SPELLINGS))
    return folder
