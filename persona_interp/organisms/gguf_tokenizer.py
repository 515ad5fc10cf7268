"""A byte-level BPE tokenizer as llama.cpp keeps it: token list, merges and the name of a splitting rule it knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from persona_interp.errors import UnsupportedError
from persona_interp.organisms.tokenizer import SPLITS

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
_ELSEWHERE = "only byte-level BPE tokenizers with a splitting rule of llama.cpp can be exported"


def write_tokenizer(writer: Any, tokenizer: Any, vocab_size: int) -> None:
    """Write `tokenizer` into a ``gguf.GGUFWriter``; llama.cpp then gives every text the ids that it gives.

    Args:
        vocab_size: rows of the embedding; ids beyond the tokenizer's own become unused tokens.

    Raises:
        UnsupportedError: llama.cpp has no splitting rule for it, or it is not byte-level BPE; names the part.
    """
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedError(f"{name} is a slow tokenizer: {_ELSEWHERE}")
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    rule = splitting_rule(spec, name)
    tokens, kinds = _tokens(spec, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(int(token))
    plain, bos = tokenizer("a")["input_ids"], tokenizer.bos_token_id
    writer.add_add_bos_token(bool(plain) and bos is not None and plain[0] == bos)
    writer.add_add_eos_token(False)
    if isinstance(getattr(tokenizer, "chat_template", None), str):
        writer.add_chat_template(tokenizer.chat_template)


def splitting_rule(spec: Mapping[str, Any], name: str) -> str:
    """llama.cpp's name for the rule by which the tokenizer of a ``tokenizer.json`` cuts text into words.

    Raises:
        UnsupportedError: there is none.
    """
    model, normalizer = spec["model"], spec.get("normalizer")
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("unk_token"):
        raise UnsupportedError(f"the tokenizer of {name} is {model.get('type')}, not byte-level: {_ELSEWHERE}")
    if normalizer is not None and normalizer.get("type") != "NFC":  # llama.cpp leaves NFC out for these families
        raise UnsupportedError(f"the tokenizer of {name} normalises text by {normalizer.get('type')}: {_ELSEWHERE}")
    outer = spec.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    *splits, last = steps
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        if not splits and last.get("use_regex"):
            return "gpt-2"
        if len(splits) == 1 and not last.get("use_regex"):
            pattern = splits[0].get("pattern", {}).get("Regex")
            for rule, known in SPLITS.items():
                if pattern == known:
                    return rule
    raise UnsupportedError(f"llama.cpp has no rule that cuts words as the tokenizer of {name} does: {_ELSEWHERE}")


def _tokens(spec: Mapping[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    tokens = [f"[UNUSED{index}]" for index in range(vocab_size)]
    kinds = [UNUSED] * vocab_size
    for text, index in spec["model"]["vocab"].items():
        tokens[index], kinds[index] = text, NORMAL
    for added in spec.get("added_tokens", []):
        tokens[added["id"]], kinds[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    return tokens, kinds
