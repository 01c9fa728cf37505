#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Pack a model at 5.0, 4.5 and 4.0 bits, unpack, and measure on a published text: all steps of one row.
# Usage: benchmarks/llm/measure.sh PROTOCOL MODEL_DIRECTORY WORK_DIRECTORY [arguments of evaluate.py ...]
# PROFILE=datafree packs without calibration; BITS="5.0 4.0" names other rates.
set -euo pipefail

protocol=$1 model=$2 work=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
profile=${PROFILE:-calibrated}
mkdir -p "$work"

packs=()
for bits in ${BITS:-5.0 4.5 4.0}; do
  pack=$work/$profile-$bits
  [ -e "$pack" ] || "$python" -m weighmaster.cli.main pack "$model" -o "$pack" --bits "$bits" --profile "$profile"
  [ -e "$pack-unpacked" ] || "$python" -m weighmaster.cli.main unpack "$pack" -o "$pack-unpacked"
  packs+=(--pack "$pack=$pack-unpacked")
done
PYTHONPATH="$(dirname "$here")${PYTHONPATH:+:$PYTHONPATH}" \
  "$python" "$here/evaluate.py" "$protocol" --model "$model" "${packs[@]}" -o "$work/$protocol.json" "$@"
