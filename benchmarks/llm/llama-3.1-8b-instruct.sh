#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Llama-3.1-8B-Instruct on WikiText-2, windows of 2,048 tokens. NOT RUN by us: no such model or device was at hand.
# Needs: a GPU of 80 GB (two float32 copies, 64 GB; --dtype bfloat16 halves it), 60 GB of disk, access to the model,
# and: pip install weighmaster[hf] datasets huggingface_hub.
# Usage: benchmarks/llm/llama-3.1-8b-instruct.sh WORK_DIRECTORY [arguments of evaluate.py ...]
set -euo pipefail

work=${1:?usage: llama-3.1-8b-instruct.sh WORK_DIRECTORY}
shift
model=${MODEL:-$work/model}
[ -e "$model" ] || hf download meta-llama/Llama-3.1-8B-Instruct --exclude 'original/*' --local-dir "$model"
"$(dirname "${BASH_SOURCE[0]}")/measure.sh" wikitext-2 "$model" "$work" "$@"
