#!/usr/bin/env bash
# Beam decoding on a GPU, in one command:
#
#     benchmarks/gpu.sh                       the whole table; writes benchmarks/results/gpu.json
#     benchmarks/gpu.sh --device cpu --quick  the same code on any machine, in a minute or two, as a check
#
# It installs what it needs into .venv/ first. All arguments go to `python -m benchmarks.gpu`; see --help there.
set -euo pipefail
cd "$(dirname "$0")/.."

runtime=cpu
if nvidia-smi -L >/dev/null 2>&1; then
    runtime=gpu
fi
for argument in "$@"; do
    case "$argument" in
        cpu | --device=cpu) runtime=cpu ;;
    esac
done
# A Python that has everything already can be given, as in PYTHON_BIN=python benchmarks/gpu.sh.
if [[ -z "${PYTHON_BIN:-}" ]]; then
    make --no-print-directory install RUNTIME="$runtime" >&2
    PYTHON_BIN=.venv/bin/python
fi
exec "$PYTHON_BIN" -m benchmarks.gpu "$@"
