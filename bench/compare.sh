#!/usr/bin/env bash
# This program beside timm: installs the peers, builds, and compares the cases (all without arguments).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
[ $# -gt 0 ] || set -- f0 n0 f0-eval
./dev peers
./dev build
exec .peers/bin/python bench/compare.py "$@"
