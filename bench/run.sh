#!/bin/bash
# run.sh [OPTION...]: builds and runs the comparison, see main.go. Run by root,
# from `make bench`, after a build.
set -euo pipefail
cd "$(dirname "$0")/.."
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}

bash tools/install-test-tools.sh
test/images/make-images.sh -u "$images"
if [[ " $*" != *\ -docker* && " $*" != *\ --docker* ]]; then
    # What docker/build.sh needs.
    if [[ ! -e /usr/include/seccomp.h || ! -x /usr/bin/gcc || ! -x /usr/bin/tini-static ]]; then
        apt-get -q update >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends gcc libc6-dev libseccomp-dev tini >/dev/null
    fi
    peer=$(sh bench/docker/build.sh)
    set -- -docker "$peer" "$@"
fi
dir=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$dir"' EXIT
# Which are for what runs here: it clears away.
trap 'exit 130' INT
trap 'exit 143' TERM
CGO_ENABLED=0 go build -buildvcs=false -o "$dir/bench" ./bench
# Copies, as they are installed: the linker leaves its output in single pages of
# the page cache, from which a program starts half a millisecond later.
install bin/porthole bin/porthole-build bin/portholed bin/porthole-shim "$dir"
PORTHOLE_TEST_BIN=$dir "$dir/bench" -images "$images" "$@"
