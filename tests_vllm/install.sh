#!/usr/bin/env bash
# Put vLLM's CPU build and the models that it serves into a folder, once: install.sh FOLDER
# VLLM_PIP: more options for pip, such as the index that has PyTorch's CPU wheels.
set -euo pipefail
folder=$1 python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
log=$folder/install.log

fail() { echo "skipped: vLLM can't be installed here: $1" >&2; exit 1; }

wanted=$(cat "$here"/{install.sh,requirements.txt,make_models.py} | cksum)
[ "$(cat "$folder/.ready" 2>/dev/null)" != "$wanted" ] || exit 0

[ "$(uname -sm)" = "Linux x86_64" ] || fail "it needs Linux on x86_64, this is $(uname -sm)"
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
[ "$free" -ge 6 ] || fail "it needs 6 GiB of disk, $free are free"

echo "Setting up $folder (once: 2.5 GB of packages, some minutes)"
rm -rf "$folder" && mkdir -p "$folder"
"$python" -m venv "$folder" > "$log" 2>&1 || fail "see $log"
# Without dependencies: those that it names include CUDA builds, which break its CPU build.
# shellcheck disable=SC2086
nice -n 5 "$folder/bin/python" -m pip install --no-deps --disable-pip-version-check \
    ${VLLM_PIP:-} -r "$here/requirements.txt" >> "$log" 2>&1 \
    || fail "$(grep '^ERROR' "$log" | tail -1 || true) (all in $log; VLLM_PIP='--extra-index-url …' names an index with PyTorch's CPU wheels)"
nice -n 5 "$folder/bin/python" "$here/make_models.py" "$folder/models" >> "$log" 2>&1 \
    || fail "no models: $(tail -1 "$log")"
echo "$wanted" > "$folder/.ready"
