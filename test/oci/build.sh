#!/bin/sh
# build.sh: builds the validation programs of the OCI's runtime-tools at the version that
# go.mod pins, unless that was done before, and prints the directory that they are in.
# It needs a minute of a processor, and the network for the modules.
set -eu
cd "$(dirname "$0")"
sum=$(cat go.mod go.sum build.sh | sha256sum | cut -c1-12)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/porthole-test/runtime-tools-$sum
if [ ! -d "$dir" ]; then
	rm -rf "$dir.$$"
	mkdir -p "$dir.$$"
	CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$dir.$$/" tool
	module=$(GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' github.com/opencontainers/runtime-tools)
	install -m 0644 "$module/rootfs-$(go env GOARCH).tar.gz" "$dir.$$/"
	mv "$dir.$$" "$dir" 2>/dev/null || rm -rf "$dir.$$" # somebody else was faster
fi
echo "$dir"
