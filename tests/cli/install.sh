#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The library as its users get it: installed, found by pkg-config, the examples built and run against
# it, its header alone as C11 and C++17, nothing exported but what the header declares.
#   usage: install.sh BUILD-FOLDER SOURCE-FOLDER
set -u
build=$1 source=$2
# shellcheck source=tests/cli/tap.sh
. "$(dirname "$0")/tap.sh"

root=$scratch/root
succeeds "install" env DESTDIR="$root" meson install -C "$build" --no-rebuild
pc=$(find "$root" -name mtserve.pc)
lib=$(dirname "$(find "$root" -name libmtserve.so)")
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$root
read -r -a flags < <(pkg-config --cflags --libs mtserve)
succeeds "pkg-config finds it" test "${#flags[@]}" -ge 2

"$build/mtserve" model init --preset tiny --seed 1 -o "$scratch/tiny.safetensors"
for example in server tier; do
	succeeds "example $example builds" cc -std=c11 -Wall -Wextra -Werror \
		"$source/Documentation/examples/$example.c" "${flags[@]}" -o "$scratch/$example"
	out=$(LD_LIBRARY_PATH=$lib "$scratch/$example" "$scratch/tiny.safetensors" 2>&1)
	verdict $? "example $example runs" "$out"
	case $example in
	server) grep -q '300 events: 200 reused' <<<"$out" ;;
	tier)   grep -q '60 events: 40 were on the device' <<<"$out" ;;
	esac
	verdict $? "example $example reuses what it had" "$out"
done

header=$(find "$root" -name mtserve.h)
succeeds "header alone, C11" cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c "$header"
succeeds "header alone, C++17" c++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -x c++ "$header"

exported=$(nm -D --defined-only "$lib/libmtserve.so" | awk '/ T /{sub(/@.*/, "", $3); print $3}' | sort)
declared=$(grep -oE '\bmts_[a-z_]+\(' "$header" | tr -d '(' | sort -u)
[ "$exported" = "$declared" ]
verdict $? "exports what the header declares, no more" "$(diff <(echo "$exported") <(echo "$declared"))"

finish
