#!/bin/sh
# build.sh: builds the newest Docker Engine that the Go module proxy has, once, and
# prints the directory that its programs are in: dockerd, docker-proxy, docker-init,
# containerd, containerd-shim-runc-v2, runc and docker. It needs many minutes of a
# processor, the network for the modules, and of Debian gcc, libseccomp-dev and tini.
#
# Each part has a go.mod of its own and with it the modules of its release. All are
# static, as Docker publishes them. runc has a part in C, and seccomp by libseccomp;
# it is built without libpathrs, a library in Rust that Debian does not have, and
# does the same in Go.
set -eu
cd "$(dirname "$0")"
sum=$(cat ./*/go.mod ./*/go.sum build.sh | sha256sum | cut -c1-12)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/porthole-test/docker-engine-$sum
if [ -d "$dir" ]; then
	echo "$dir"
	exit
fi

need() {
	[ -e "$1" ] && return
	echo "build.sh: there is no $1: apt-get install gcc libseccomp-dev tini" >&2
	exit 1
}
need /usr/bin/gcc
need /usr/include/seccomp.h
need /usr/bin/tini-static

# part DIR TAGS LDFLAGS [OPTION]: builds the tools of DIR/go.mod.
part() (
	cd "$1"
	GOFLAGS=-mod=readonly go build ${4:+"$4"} -trimpath -buildvcs=false -tags "netgo osusergo static_build $2" -ldflags "-s -w $3" -o "$tmp/" tool
)
# version DIR MODULE: the version that DIR/go.mod pins.
version() (
	cd "$1"
	GOFLAGS=-mod=readonly go list -m -f '{{.Version}}' "$2"
)

tmp=$dir.$$
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"
CGO_ENABLED=1 part runc 'seccomp urfave_cli_no_docs' '-linkmode external -extldflags -static'
export CGO_ENABLED=0
v=$(version engine github.com/moby/moby/v2)
part engine nri_no_wasm "-X github.com/moby/moby/v2/dockerversion.Version=$v"
v=$(version containerd github.com/containerd/containerd/v2)
part containerd urfave_cli_no_docs "-X github.com/containerd/containerd/v2/version.Version=$v"
v=$(version cli github.com/docker/cli)
# It has no go.mod, which Go takes for a program of Go 1.16.
part cli '' "-X github.com/docker/cli/cli/version.Version=${v%+incompatible}" -gcflags=github.com/docker/cli/cmd/docker=-lang=go1.26
install /usr/bin/tini-static "$tmp/docker-init"
mv "$tmp" "$dir" 2>/dev/null || [ -d "$dir" ] # somebody else was faster
echo "$dir"
