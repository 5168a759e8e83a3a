#!/bin/bash
# run.sh [OPTION...]: builds and runs the comparison, see main.go. Run by root,
# from `make bench`, after a build.
set -euo pipefail
cd "$(dirname "$0")/.."
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}

bash tools/install-test-tools.sh
test/images/make-images.sh -u "$images"
program=$(mktemp)
trap 'rm -f "$program"' EXIT
CGO_ENABLED=0 go build -buildvcs=false -o "$program" ./bench
PORTHOLE_TEST_BIN=$PWD/bin "$program" -images "$images" "$@"
