# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# TAP for the shell tests, and a scratch folder that goes with them. Sourced.

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
taps=0 bad=0

# verdict STATUS NAME [DETAIL]: one TAP line; detail as a comment when it failed.
verdict() {
	taps=$((taps + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $taps - $2"
	else
		bad=$((bad + 1))
		echo "not ok $taps - $2"
		[ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
	fi
}

# succeeds NAME COMMAND...
succeeds() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then verdict 0 "$name"; else verdict 1 "$name" "$out"; fi
}

# refused NAME STATUS TEXT COMMAND...: exits with STATUS, says TEXT on standard error, in no more lines than the usage.
refused() {
	local name=$1 status=$2 text=$3 got=0 err=$scratch/stderr
	shift 3
	timeout 60 "$@" >"$scratch/stdout" 2>"$err" || got=$?
	if [ "$got" -eq "$status" ] && grep -qF -- "$text" "$err" && [ "$(wc -l <"$err")" -le 20 ]; then
		verdict 0 "$name"
	else
		verdict 1 "$name" "status $got, expected $status with \"$text\"; it said: $(head -n 5 "$err")"
	fi
}

# skip NAME REASON
skip() {
	taps=$((taps + 1))
	echo "ok $taps - $1 # SKIP $2"
}

finish() {
	echo "1..$taps"
	[ "$bad" -eq 0 ]
}
