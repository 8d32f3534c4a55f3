# Sourced by the studies: `run` is `python -m benchmarks run` with their options, from the repository's root. A failed run does
# not keep the others from running; the study ends with exit code 1 then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
options=()
failed=0
trap 'code=$?; [ "$code" -ne 0 ] || exit "$failed"' EXIT

run() {
  "${PYTHON:-.venv/bin/python}" -m benchmarks run "${options[@]}" "$@" || {
    code=$?
    [ "$code" -eq 1 ] || exit "$code"
    failed=1
  }
}
