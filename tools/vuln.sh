#!/bin/bash
# vuln.sh: looks for known vulnerabilities in the code that our programs reach.
# It needs the database of vulnerabilities, https://vuln.go.dev or what GOVULNDB
# names, and is therefore no part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
database=${GOVULNDB:-https://vuln.go.dev}

said=$(mktemp)
trap 'rm -f "$said"' EXIT
status=0
go tool -modfile=tools/go.mod govulncheck -db "$database" ./cmd/... >"$said" 2>&1 || status=$?
cat "$said"
case $status in
0) ;;
3) echo "vuln: vulnerable code is reached, see above" >&2 ;;
*) echo "vuln: nothing was looked for: is the database $database reached from here? GOVULNDB names a copy" >&2 ;;
esac
exit "$status"
