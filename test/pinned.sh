#!/bin/sh
# pinned.sh DIR MODULE PACKAGE VERSION-VARIABLE NAME: builds a program of Docker's
# at the version that DIR/go.mod pins, unless that was done before, and prints
# where it is. It needs a minute or two of a processor, and the network for the
# modules. The programs are kept outside of the tree, by what they are built from.
set -eu
cd "$1"
module=$2 package=$3 variable=$4 name=$5

version=$(GOFLAGS=-mod=readonly go list -m -f '{{.Version}}' "$module")
sum=$(cat go.mod go.sum | sha256sum | cut -c1-12)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/porthole-test
program=$dir/$name-$version-$sum

if [ ! -x "$program" ]; then
	mkdir -p "$dir"
	CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $variable=$version" -o "$program.$$" "$package"
	mv "$program.$$" "$program"
fi
echo "$program"
