"""Write tiny Llamas of random weights and LoRA adapters for them: models without a download.

    base      what serves today
    base-new  another base: other weights, tokenizer and chat template; same sizes
    v1, v2    adapters that fit both bases

At temperature 0 each of them says something else to the same prompt, so an answer tells who
gave it. The same folder is written each time. Needs vLLM's environment (transformers, torch).
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = Path(__file__).parents[1] / "docs"
HIDDEN, LAYERS, HEADS, VOCABULARY, RANK = 128, 2, 4, 2048, 8
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{m['role']}}: {{m['content']}}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def write_base(folder: Path, seed: int, template: str, texts: Iterable[Path]) -> None:
    """Write a model with its tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HIDDEN // HEADS,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained(texts),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def write_adapter(folder: Path, seed: int) -> None:
    """Write an adapter that changes much."""
    torch.manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        for module in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, HIDDEN) * 0.3
            weights[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, RANK) * 0.3
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny/base",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _trained(texts: Iterable[Path]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((each.read_text() for each in texts), trainer)
    return tokenizer


def main(folder: Path) -> None:
    """Write them all below `folder`."""
    write_base(folder / "base", 0, CHATML, sorted((TEXTS / "reference").rglob("*.md")))
    write_base(folder / "base-new", 1, PLAIN, sorted(TEXTS.glob("*.md")))
    write_adapter(folder / "v1", 11)
    write_adapter(folder / "v2", 12)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
