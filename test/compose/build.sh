#!/bin/sh
# build.sh: builds Docker Compose, once, and prints where it is.
m=github.com/docker/compose/v5
exec sh "$(dirname "$0")/../pinned.sh" "$(dirname "$0")" $m $m/cmd $m/internal.Version docker-compose
