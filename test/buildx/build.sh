#!/bin/sh
# build.sh: builds Docker Buildx, once, and prints where it is.
m=github.com/docker/buildx
exec sh "$(dirname "$0")/../pinned.sh" "$(dirname "$0")" $m $m/cmd/buildx $m/version.Version docker-buildx
