# SPDX-License-Identifier: Apache-2.0
# bash completion for minivmm-img. What there is to complete is asked of the program itself.

_minivmm_img_options() {
    "$1" "$2" --help 2>/dev/null | head -n 1 | grep -oE -- ' \[?\(?--?[a-zA-Z][a-z-]*=?' |
        grep -oE -- '--?[a-zA-Z][a-z-]*=?'
    echo --help
}

_minivmm_img_keys() {
    "$1" create -f qcow2 -o help 2>/dev/null | sed -nE 's/^  ([a-z_2.-]+)=<.*/\1=/p'
}

_minivmm_img() {
    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} list=

    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        list="$("$program" --help 2>/dev/null | sed -nE 's/^  ([a-z]+) .*/\1/p') --help --version"
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
        return
    fi
    # "--output=json" is three words where '=' breaks words.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
    -f | -F | -O | --format) list="qcow2 raw" ;;
    -t | -T) list="none writeback writethrough directsync unsafe" ;;
    --output) list="human json" ;;
    --preallocation) list="off metadata falloc full" ;;
    --object) list="secret,id=" ;;
    -o)
        list=$(_minivmm_img_keys "$program")
        compopt -o nospace
        ;;
    -r | --repair) [[ $command == check ]] && list="leaks all" ;;
    esac
    if [[ -z $list && $cur == -* ]]; then
        list=$(_minivmm_img_options "$program" "$command")
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur" | sed 's/[^=]$/& /')
    elif [[ -n $list ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
    else
        compopt -o default # names of files
    fi
}

complete -F _minivmm_img minivmm-img
