#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build llama.cpp's quantizer from the source archive of llama-cpp-python, which carries llama.cpp whole: llama-quantize
# and libggml-base.so, no GPU, no server. About 5 minutes on two cores and 0.6 GB of disk.
# Usage: benchmarks/peers/get_llama.sh DIRECTORY   (then: benchmarks/quality.py peers --llama DIRECTORY/bin ...)
set -euo pipefail

release=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
directory=$(mkdir -p "${1:?usage: get_llama.sh DIRECTORY}" && cd "$1" && pwd)
python=${PYTHON:-python3}

cd "$directory"
archive=llama_cpp_python-$release.tar.gz
[ -e "$archive" ] || "$python" -m pip download --no-deps --no-binary :all: "llama-cpp-python==$release"
echo "$sha256  $archive" | sha256sum --check --quiet
tar --extract --gzip --file "$archive"
cmake -S "llama_cpp_python-$release/vendor/llama.cpp" -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
  -DBUILD_SHARED_LIBS=ON -DGGML_OPENMP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF | tee configure.log
nice -n 10 make -C build -j2 llama-quantize
ln -sfn build/bin bin
version=$(sed -n 's/^-- llama.cpp version: //p' configure.log)
echo "$version (of llama-cpp-python $release)" >bin/VERSION
