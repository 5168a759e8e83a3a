#!/bin/sh
# build.sh: builds Delve, once, and prints where it is.
m=github.com/go-delve/delve
exec sh "$(dirname "$0")/../pinned.sh" "$(dirname "$0")" $m $m/cmd/dlv main.Build dlv
