#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Qwen3-1.7B-Base on FineWeb-Edu, 200 windows of 1,024 tokens, seed 42. NOT RUN by us: no such model or device was at
# hand. Needs: a GPU of 24 GB, 15 GB of disk, and: pip install weighmaster[hf] datasets huggingface_hub.
# Usage: benchmarks/llm/qwen3-1.7b-base.sh WORK_DIRECTORY [arguments of evaluate.py ...]
set -euo pipefail

work=${1:?usage: qwen3-1.7b-base.sh WORK_DIRECTORY}
shift
model=${MODEL:-$work/model}
[ -e "$model" ] || hf download Qwen/Qwen3-1.7B-Base --local-dir "$model"
"$(dirname "${BASH_SOURCE[0]}")/measure.sh" fineweb-edu "$model" "$work" "$@"
