#!/bin/sh
# build.sh: builds Docker Compose at the version that go.mod pins, unless that
# was done before, and prints where the program is. It needs a minute of a
# processor, and the network for the modules. The programs are kept outside of
# the tree, by what they are built from.
set -eu
cd "$(dirname "$0")"

package=github.com/docker/compose/v5
version=$(GOFLAGS=-mod=readonly go list -m -f '{{.Version}}' $package)
sum=$(cat go.mod go.sum | sha256sum | cut -c1-12)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/porthole-test
program=$dir/docker-compose-$version-$sum

if [ ! -x "$program" ]; then
	mkdir -p "$dir"
	CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $package/internal.Version=$version" -o "$program.$$" $package/cmd
	mv "$program.$$" "$program"
fi
echo "$program"
