# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share; sourced by them.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
logs=$build/logs
mkdir -p "$logs"
program=${0##*/}
# Where Debian keeps mke2fs, depmod and their like, which work for everyone.
PATH=$PATH:/usr/sbin:/sbin

say() {
    echo "$program: $*" >&2
}

die() {
    say "$*"
    exit 1
}

# step TEXT COMMAND…: one progress line with the time it took; output goes to a log. When the command
# fails, the log's end is shown and the script ends. Never call this after `if`, `||` or the like:
# the shell would then ignore failures inside COMMAND.
step() {
    local text=$1 log status start=$SECONDS
    shift
    log=$logs/$program-$(tr -cs 'a-zA-Z0-9' - <<<"$text" | sed 's/-$//').log
    printf '%s: %s … ' "$program" "$text" >&2
    set +e
    (
        set -e
        "$@"
    ) </dev/null >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        echo "$((SECONDS - start)) s" >&2
    else
        echo "failed (exit status $status); the end of $log:" >&2
        tail -n 20 "$log" | sed 's/^/    | /' >&2
        exit 1
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "needs root or sudo: $*" >&2
        return 1
    fi
}

# Asks for sudo's password before a step hides its prompt.
want_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "$1: run this as root, or install sudo"
    sudo -v || die "$1: sudo refused"
}

# ---- products ----------------------------------------------------------------------------------
# A product is complete when its stamp, .NAME in the folder $products, is there and matches what it
# was made from. Everything is made in a work folder, so that a killed run leaves nothing half-made.

product=
stamp=
work=

# current NAME VERSION FILE…: is the product there, made by this version from these files?
current() {
    product=$1
    stamp=$2-$(cat /dev/null "${@:3}" | sha256sum | cut -c1-16)
    [ "$(cat "$products/.$product" 2>/dev/null)" = "$stamp" ]
}

begin() {
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    rm -f "$products/.$product"
    work=$(mktemp -d "$products/.work-XXXXXX")
}

# finish FILE…: the product consists of these, made in $work.
finish() {
    local name
    for name in "$@"; do
        rm -rf "${products:?}/$name"
        mv "$work/$name" "$products/$name"
    done
    echo "$stamp" >"$products/.$product"
    clean_up
    trap - EXIT HUP INT TERM
}

clean_up() {
    trap '' HUP INT TERM
    # A Debian tree is root's.
    [ -z "$work" ] || rm -rf "$work" 2>/dev/null || as_root rm -rf "$work"
    work=
}

# One process at a time makes products.
lock_products() {
    mkdir -p "$products"
    exec 9>"$products/.lock"
    flock 9
}

unlock_products() {
    exec 9>&-
}

# copy_modules BASE TO MODULE…: modules from BASE/lib/modules, those they need first, unpacked; their
# order is written to TO/order.
copy_modules() {
    local base=$1 to=$2 path name
    mkdir -p "$to"
    modprobe -d "$base" -S "$(ls "$base/lib/modules")" -a --show-depends "${@:3}" |
        awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$to/paths"
    while read -r path; do
        name=${path##*/}
        name=${name%.ko*}.ko
        case $path in
        *.xz) xz -dc "$path" ;;
        *) cat "$path" ;;
        esac >"$to/$name"
        echo "$name" >>"$to/order"
    done <"$to/paths"
    rm "$to/paths"
}
