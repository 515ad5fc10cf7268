"""An example or two of every command, as its help shows them: run in this order, in an empty folder, each works as it stands."""

from __future__ import annotations

SLOW = ("quickstart", "demo", "serve", "download-gptoss", "models fetch", "models remove", "modulate")
"""Those that take minutes, need a network or stay open: tests parse them and run the others."""

_SILLY = "--vectors vectors/organism-qwen2_silly.json"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "quickstart": (
        "persona-interp quickstart",
        "persona-interp quickstart --model smollm2-135m-instruct",
    ),
    "doctor": ("persona-interp doctor",),
    "models": ("persona-interp models list",),
    "models list": ("persona-interp models list --json",),
    "models fetch": ("persona-interp models fetch smollm2-135m-instruct",),
    "models path": ("persona-interp models path organism-qwen2",),
    "models remove": ("persona-interp models remove smollm2-135m-instruct",),
    "traits": ("persona-interp traits list",),
    "traits list": ("persona-interp traits list",),
    "traits show": (
        "persona-interp traits show honest",
        'persona-interp traits show honest --json | sed \'s/"honest"/"frank"/\' > my_trait.json',
    ),
    "traits add": ("persona-interp traits add my_trait.json --overwrite",),
    "extract-vectors": (
        "persona-interp extract-vectors --model organism-qwen2 --trait silly --samples 1 --max-new-tokens 32",
        "persona-interp extract-vectors --model organism-llama --trait silly --samples 1 --max-new-tokens 32",
    ),
    "apply-steering": (
        f'persona-interp apply-steering --model organism-qwen2 {_SILLY} --prompt "What is the bicycle?" --ratio 0.4 --baseline',
        f'persona-interp apply-steering --model organism-qwen2 {_SILLY} --prompt "What is the bicycle?" --coefficients -0.5 0.5 '
        "--chats chats.jsonl",
    ),
    "info": ("persona-interp info vectors/organism-qwen2_silly.json",),
    "layer-effectiveness": (
        f"persona-interp layer-effectiveness --model organism-qwen2 {_SILLY} --trait silly --method gradient",
    ),
    "export": (f"persona-interp export {_SILLY} --to gguf --output silly.gguf",),
    "import": ("persona-interp import silly.gguf --model organism-qwen2 --output imported.json",),
    "align": ("persona-interp align --source organism-qwen2 --target organism-llama --num-anchors 60",),
    "attribute": (f"persona-interp attribute --model organism-qwen2 {_SILLY} --layer 4",),
    "evaluate": (
        f"persona-interp evaluate --model organism-qwen2 {_SILLY} --trait silly --ratio -0.4 0.4 --num-prompts 2 "
        "--max-new-tokens 24 --output silly_evaluation.json",
    ),
    "evaluate-transfer": (
        "persona-interp evaluate-transfer --source organism-qwen2 --target organism-llama --trait silly --num-prompts 2 "
        "--num-anchors 60 --max-new-tokens 24 --output silly_transfer.json",
    ),
    "diagnose": (
        "persona-interp diagnose --source organism-qwen2 --target organism-llama --trait silly --num-prompts 2 --num-anchors 60 "
        "--max-new-tokens 24 --output silly_diagnosis",
    ),
    "monitor": (f"persona-interp monitor --model organism-qwen2 {_SILLY} --input chats.jsonl --layer 4",),
    "monitor-prediction": (
        f"persona-interp monitor-prediction --model organism-qwen2 {_SILLY} --trait silly --samples 1 --max-new-tokens 16 "
        "--output prediction",
    ),
    "screen": (f"persona-interp screen --model organism-qwen2 {_SILLY} --dataset chats.jsonl --output screened.json",),
    "finetuning-shift": (
        f"persona-interp finetuning-shift --base organism-qwen2 --finetuned organism-qwen2 {_SILLY} --output shift.json",
    ),
    "finetune": (
        "persona-interp finetune --model organism-qwen2 --data chats.jsonl --prevent vectors/organism-qwen2_silly.json "
        "--ratio 0.3 --layer 4 --epochs 1 --output tuned",
    ),
    "audit": ("persona-interp audit tuned --dictionary vectors --output audit.json",),
    "modulate": (
        "persona-interp modulate --model smollm2-135m-instruct --engine llama.cpp --mode control-vector "
        '--vectors vectors/smollm2-135m-instruct_silly.json --prompt "What is a bicycle?" --ratio 0.4',
    ),
    "download-gptoss": ("persona-interp download-gptoss --output models",),
    "demo": ("persona-interp demo --port 8000",),
    "serve": ("persona-interp serve --model organism-qwen2 --personas vectors --port 8100",),
}
