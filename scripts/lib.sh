# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts share: finding the tree, saying things, installing packages. Sourced, not run.

# Prints to stderr, so that a script's own output stays what its head says.
say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "$*"
	exit 1
}

# as_root COMMAND...: run it as root, by sudo if need be; fails with a message when neither goes.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "not root, and there is no sudo: cannot run: $*"
		return 1
	fi
}

# missing_packages PKG...: print those that are not installed.
missing_packages() {
	local pkg
	for pkg in "$@"; do
		dpkg-query -W -f '${Status}\n' "$pkg" 2>/dev/null |
			grep -q '^install ok installed$' || printf '%s\n' "$pkg"
	done
}

# apt_install PKG...: install, refreshing the package lists only when the first try fails.
apt_install() {
	local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0
		-o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@")
	as_root "${install[@]}" >/dev/null 2>&1 && return 0
	as_root apt-get -qq -o DPkg::Lock::Timeout=600 update >&2 || return 1
	as_root "${install[@]}" >&2
}

# need_packages PKG...: install those of the Debian packages that are missing. Asks nobody and
# touches no network when all are there; returns 1, having said which, when they cannot be had.
need_packages() {
	local missing
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -eq 0 ] && return 0
	say "installing: ${missing[*]}"
	apt_install "${missing[@]}" || {
		say "cannot install: ${missing[*]}"
		return 1
	}
}

# --- building ------------------------------------------------------------------------------------

# What the program needs, to build and to run.
# shellcheck disable=SC2034 # used by those who source this
build_packages=(
	gcc g++ libc6-dev meson ninja-build pkg-config
	libjansson-dev libxxhash-dev libnuma-dev uthash-dev check
	libopenblas0-pthread libblis4-serial
)

# set_up FOLDER [MESON OPTION...]: configure once; the options of the first time stay.
set_up() {
	local folder=$1
	shift
	[ -f "$folder/build.ninja" ] || meson setup "$folder" "$@" >"$folder.log" 2>&1 ||
		{ cat "$folder.log" >&2; die "cannot configure $folder"; }
}

# build FOLDER [MESON OPTION...]: configure where needed, then build everything.
build() {
	mkdir -p build
	set_up "$@"
	ninja -C "$1" >"$1.log" 2>&1 || { cat "$1.log" >&2; die "cannot build $1"; }
}
