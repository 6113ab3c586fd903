# shellcheck shell=bash
# What the scripts share; sourced by them.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
logs=$build/logs
mkdir -p "$logs"
program=${0##*/}

say() {
    echo "$program: $*" >&2
}

die() {
    say "$*"
    exit 1
}

# step TEXT COMMAND…: one progress line with the time it took; output goes to a log, whose end is
# shown when the command fails. Returns the command's status.
step() {
    local text=$1 log status=0 start=$SECONDS
    shift
    log=$logs/$program-$(tr -cs 'a-zA-Z0-9' - <<<"$text" | sed 's/-$//').log
    printf '%s: %s … ' "$program" "$text" >&2
    "$@" </dev/null >"$log" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        echo "$((SECONDS - start)) s" >&2
    else
        echo "failed (exit status $status); the end of $log:" >&2
        tail -n 20 "$log" | sed 's/^/    | /' >&2
    fi
    return "$status"
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

# stamp_of FILE…: what a product made from these files is stamped with.
stamp_of() {
    cat -- "$@" | sha256sum | cut -c1-16
}
