#!/bin/bash
# fuzz.sh: runs every fuzz target of the tree for FUZZTIME (10m), JOBS (2) at a
# time, and goes on when one has found something. FUZZ is a regular expression
# that picks some, of names as internal/pcap.FuzzRead. After them test/apifuzz asks
# a daemon of its own for everything its API has, as long.
#
# What a target found goes to testdata/fuzz beside it, as Go does. So do inputs
# that reach code which the committed ones do not reach: they are the start of
# the next run, and each `go test` tries them; both belong to whoever has the
# checkout. Go's own corpus, which is longer, stays in its build cache.
#
# Ends with a table, and with 1 if anything was found.
# shellcheck disable=SC2317 # functions are called by name
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 FUZZTIME=${FUZZTIME:-10m}
jobs=${JOBS:-2}
pick=${FUZZ:-.}
images=${PORTHOLE_TEST_IMAGES:-/var/cache/porthole-test-images/images}
bin=${PORTHOLE_TEST_BIN:-$PWD/bin} # make fuzz has built it

# What the daemon needs; a run of hours should not end for want of it.
asks_daemon() { grep -qE "$pick" <<<test/apifuzz.TestAPI; }
if asks_daemon; then
    bash tools/install-test-tools.sh
    test/images/make-images.sh -u "$images"
fi

# Where targets write their files: memory, if there is enough. On a disk those that sync
# wait for it most of the time.
enough=1048576 # KiB, more than two targets have taken
memory=/dev/shm
if [[ $(stat -fc %T "$memory" 2>/dev/null) != tmpfs ]] || (($(awk '/^MemAvailable/ { print $2 }' /proc/meminfo) < 2 * enough)) ||
    (($(df --output=avail "$memory" | tail -n 1) < enough)); then
    memory=${TMPDIR:-/tmp}
    echo "fuzz: there is no room in memory: targets that write files will wait for $memory" >&2
fi

work=$(mktemp -d)
files=$(mktemp -d -p "$memory")
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cache=$(go env GOCACHE)/fuzz
module=$(go list -m)
export work files cache module top=$PWD

# We are root, by sudo, and what we add to the checkout is not to be.
tidy() {
    local owner
    owner=$(stat -c %u:%g .)
    find . -path ./.git -prune -o \( -name testdata -o -path '*/testdata/fuzz*' \) -user 0 -exec chown -h "$owner" {} +
    rm -rf "$work" "$files"
}

# A corpus is read by each `go test`, and lives in the repository for ever.
export keep_files=50 keep_bytes=65536 keep_tried=200 keep_one=4096

# Builds PACKAGE's tests so that the fuzzer sees which edges an input takes. Later
# changes of the tree do not touch what is built.
build() {
    go test -c -vet=off -fuzz=. -o "$work/${1//\//_}.fuzz" "./$1"
}

# Builds them so that we see which blocks an input reaches, if nobody has yet.
build_cover() {
    local package=$1 binary=$work/${1//\//_}.cover
    (
        flock 9
        [[ -e $binary ]] || go test -c -vet=off -cover -coverpkg="./$package/..." -o "$binary" "./$package"
    ) 9>"$binary.lock"
}

# Prints the blocks of code that a run of the tests PATTERN reaches.
reached() {
    local binary=$1 pattern=$2 profile
    profile=$(mktemp -p "$work")
    TMPDIR=$files "$binary" -test.run "$pattern" -test.coverprofile "$profile" >/dev/null 2>&1 || true
    awk 'NR > 1 && $NF > 0 { print $1 }' "$profile" | sort -u
    rm -f "$profile"
}

# Copies from the cache of TARGET what reaches further than its committed inputs,
# the smallest first. Prints how many.
keep() {
    local binary=$1 target=$2 from=$3 to=testdata/fuzz/$2 kept=0 have=0 bytes=0 size file blocks new
    if [[ -d $to ]]; then
        have=$(find "$to" -type f | wc -l)
        bytes=$(find "$to" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
    fi
    blocks=$(mktemp -p "$work")
    new=$(mktemp -p "$work")
    reached "$binary" "^$target\$" >"$blocks"
    while read -r size file; do
        if ((have + kept >= keep_files || bytes + size > keep_bytes)); then
            break
        fi
        [[ ! -e $to/$file ]] || continue
        mkdir -p "$to"
        cp "$from/$file" "$to/$file"
        reached "$binary" "^$target\$/^$file\$" | comm -13 "$blocks" - >"$new"
        if [[ -s $new ]]; then
            sort -u -o "$blocks" "$blocks" "$new"
            kept=$((kept + 1)) bytes=$((bytes + size))
        else
            rm "$to/$file"
        fi
    done < <(find "$from" -maxdepth 1 -type f -size "-${keep_one}c" -printf '%s %f\n' 2>/dev/null | sort -n | sed "${keep_tried}q")
    rmdir -p --ignore-fail-on-non-empty "$to" 2>/dev/null || true
    echo "$kept"
}

# Fuzzes one TARGET of PACKAGE by one thread, and adds its row to the table. An input
# that reaches further is made smaller by a hundred tries at most: Go would give it a
# minute, and where what is reached differs from time to time, as with goroutines, it
# would do little else and count none of it.
one() {
    local package=$1 target=$2 name=${1//\//_}
    local log=$work/$name.$target.log status=ok kept=0 last execs new total failures=0
    cd "$top/$package"
    touch "$work/$name.$target.began"
    TMPDIR=$files GOMAXPROCS=1 nice -n 19 "$work/$name.fuzz" -test.run "^$target\$" -test.fuzz "^$target\$" -test.fuzztime "$FUZZTIME" -test.fuzzminimizetime 100x \
        -test.parallel 1 -test.fuzzcachedir "$cache/$module/$package" >"$log" 2>&1 || status=FAILED
    last=$(grep -o 'execs: .*' "$log" | tail -n 1 || true)
    execs=$(sed -nE 's/^execs: ([0-9]+).*/\1/p' <<<"$last")
    new=$(sed -nE 's/.*new interesting: ([0-9]+).*/\1/p' <<<"$last")
    total=$(sed -nE 's/.*\(total: ([0-9]+).*/\1/p' <<<"$last")
    if [[ $status == FAILED ]]; then
        failures=$(find "testdata/fuzz/$target" -type f -newer "$work/$name.$target.began" 2>/dev/null | wc -l)
        sed "s|^|$package.$target: |" "$log" | grep -v 'fuzz: elapsed:' >&2
    else
        (cd "$top" && build_cover "$package")
        kept=$(keep "$work/$name.cover" "$target" "$cache/$module/$package/$target")
    fi
    # A target that has failed is a failure, also where it left no input that shows it.
    [[ $status == ok || $failures -gt 0 ]] || failures=1
    printf '%s.%s\t%s\t%s\t%s\t%s\t%s\n' "$package" "$target" "${execs:-0}" "${new:-0}" "${total:-0}" "$kept" "$failures" >>"$work/table"
    echo "$(date +%T) $status $package.$target: ${last:-no executions}, $kept inputs kept"
}
export -f one keep reached build_cover

# Prints the packages with targets, those first that need the least to be built.
packages() {
    git grep -lE '^func Fuzz[A-Z]\w*\(f \*testing\.F\)' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|' |
        xargs go list -f '{{len .Deps}} {{.ImportPath}}' | sort -n | sed "s|.* $module/||"
}

# Builds what has targets that are picked, and prints them as soon as they can run.
targets() {
    local package
    for package in $(packages); do
        if ! git grep -hoE '^func Fuzz\w+' -- "$package/*_test.go" | sed "s|^func |$package.|" | grep -qE "$pick"; then
            continue
        fi
        if ! build "$package"; then
            printf '%s\t0\t0\t0\t0\t1\n' "$package" >>"$work/table"
            continue
        fi
        (cd "$package" && "$work/${package//\//_}.fuzz" -test.list '^Fuzz') | sed "s|^|$package.|" | { grep -E "$pick" || true; } |
            sed 's/\.\(Fuzz\)/ \1/'
    done
}

# Asks a daemon, and adds a row to the table.
api() {
    local log=$work/api.log failures=0 requests
    PORTHOLE_TEST_STRICT=1 PORTHOLE_TEST_BIN=$bin PORTHOLE_TEST_IMAGES=$images PORTHOLE_TEST_API_FUZZ=$FUZZTIME \
        go test -v -count 1 -timeout 0 -run '^TestAPI$' ./test/apifuzz >"$log" 2>&1 || failures=1
    grep -vE '^(=== |ok )' "$log"
    requests=$(sed -nE 's/.* operations of the API: ([0-9]+) requests.*/\1/p' "$log")
    printf 'test/apifuzz.TestAPI\t%s\t-\t-\t-\t%s\n' "${requests:-0}" "$failures" >>"$work/table"
}

touch "$work/table"
echo "fuzz: $FUZZTIME for each target, $jobs at a time"
targets | xargs -r -P "$jobs" -L 1 bash -c 'set -euo pipefail; one "$@"' one
if asks_daemon; then
    api
fi
if [[ ! -s $work/table ]]; then
    echo "fuzz: no target is called $pick" >&2
    exit 1
fi
{
    printf 'target\texecutions\tnew\tcorpus\tkept\tfailures\n'
    sort "$work/table"
} | column -t -s $'\t'
if awk -F '\t' '$6 > 0 { bad = 1 } END { exit !bad }' "$work/table"; then
    echo "fuzz: FAILED; inputs that show it are in testdata/fuzz of the package" >&2
    exit 1
fi
