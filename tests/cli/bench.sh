#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every bench runs and prints what bench.h says; comparing refuses what cannot be compared. No figure is
# looked at: they depend on the machine.
#   usage: bench.sh PATH-OF-MTSERVE SOURCE-FOLDER
set -u
mtserve=$1 compare=$2/scripts/bench-compare
# shellcheck source=tests/cli/tap.sh
. "$(dirname "$0")/tap.sh"

# prints NAME COUNT COMMAND...: a machine's line, then COUNT metrics of that bench, each with its names.
prints() {
	local name=$1 count=$2 out
	shift 2
	out=$("$@" 2>&1)
	verdict $? "bench $name runs" "$out"
	[ "$(grep -c "^{\"bench\":\"$name\",\"metric\":\".*\"unit\":.*\"better\":.*\"p0\":.*\"p50\":.*\"p99\":.*\"p50_low\":.*\"p50_high\":.*\"runs\":" <<<"$out")" -eq "$count" ] &&
		[ "$(grep -c '^{"machine":{"cpu":' <<<"$out")" -eq 1 ] && [ "$(wc -l <<<"$out")" -eq $((count + 1)) ]
	verdict $? "bench $name prints $count metrics" "$out"
}

prints ring 2 "$mtserve" bench ring --runs 1
prints plan 8 "$mtserve" bench plan --runs 16 --users 1000
prints copy 72 "$mtserve" bench copy --runs 1
prints gemm 48 "$mtserve" bench gemm --runs 1
prints attention 40 "$mtserve" bench attention --runs 1
prints forward 20 "$mtserve" bench forward --runs 1 --preset tiny

# Which rungs there are depends on the machine, but for this one.
out=$("$mtserve" bench arena --runs 2 --size 8MiB --threads 1 2>&1)
verdict $? "bench arena runs" "$out"
[ "$(grep -v pin <<<"$out" | grep -c '"shape":"plain, 8 MiB, 1 threads".*"runs":2')" -eq 8 ]
verdict $? "bench arena measures plain memory" "$out"
[ "$(grep -oE '"shape":"(mtserve|hugetlbfs|tmpfs|memfd|thp|plain)' <<<"$out" | sort -u | wc -l)" -eq 6 ]
verdict $? "bench arena tells every rung" "$out"
refused "size of an arena" 64 '--size is "3MiB"' "$mtserve" bench arena --size 3MiB

refused "no bench" 64 "expected the name of a bench" "$mtserve" bench
refused "unknown bench" 64 'unknown bench "disk"' "$mtserve" bench disk
refused "too few users" 64 '--users is "3"' "$mtserve" bench plan --users 3
refused "unknown preset" 1 'preset "huge" is not known' "$mtserve" bench forward --preset huge
refused "nowhere to put the model" 1 "No such file" env TMPDIR="$scratch/none" "$mtserve" bench plan

# --- comparing ------------------------------------------------------------------------------------

machine='{"machine":{"cpu":"x","cores":2},"mtserve":"0.1.0"}'
metric() { # NAME BETTER P50 LOW HIGH
	echo "{\"bench\":\"b\",\"metric\":\"$1\",\"shape\":\"s\",\"unit\":\"us\",\"better\":\"$2\",\"p50\":$3,\"p50_low\":$4,\"p50_high\":$5}"
}
{ echo "$machine"; metric t lower 10 9 11; metric r higher 10 9 11; } >"$scratch/a"
{ echo "$machine"; metric t lower 20 19 21; metric r higher 20 19 21; } >"$scratch/b"
{ echo "$machine"; metric t lower 12 10.5 13; metric r higher 8 7 9.5; } >"$scratch/noise"
{ echo "${machine/cores\":2/cores\":4}"; metric t lower 10 9 11; metric r higher 10 9 11; } >"$scratch/other"
{ echo "$machine"; metric t lower 10 9 11; } >"$scratch/fewer"
head -n 1 "$scratch/a" >"$scratch/empty"

# says STATUS-WORDS A B: the verdicts, in order.
says() {
	[ "$("$compare" "$2" "$3" | awk '{ print $1 }' | xargs)" = "$1" ]
	verdict $? "compared: $1" "$("$compare" "$2" "$3" 2>&1)"
}
says "same same" "$scratch/a" "$scratch/a"
says "worse better" "$scratch/a" "$scratch/b"
says "better worse" "$scratch/b" "$scratch/a"
says "same same" "$scratch/a" "$scratch/noise"
refused "another machine" 1 "not the same machine: cores 2 and 4" "$compare" "$scratch/a" "$scratch/other"
refused "other metrics" 1 "b / r / s is only in $scratch/a" "$compare" "$scratch/a" "$scratch/fewer"
refused "no metrics" 1 "at least one metric" "$compare" "$scratch/a" "$scratch/empty"
refused "not a bench" 1 "tap.sh:1: not a line of mtserve bench" "$compare" "$scratch/a" "$2/tests/cli/tap.sh"
refused "no such file" 1 "No such file" "$compare" "$scratch/a" "$scratch/none"
refused "one file" 64 "bench-compare A B" "$compare" "$scratch/a"

finish
