# SPDX-License-Identifier: Apache-2.0
# bash completion for minivmm. What there is to complete is asked of the program itself: --help has a
# line for each option, with its choices between bars.

_minivmm_choices() {
    "$1" --help 2>/dev/null | sed -nE "s/^  $2[ =]([^ ]+).*/\1/p" | tr '|' '\n' | sed 's/:.*/:/'
}

_minivmm() {
    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local list=

    COMPREPLY=()
    if [[ $cur == -* ]]; then
        list=$("$program" --help 2>/dev/null | sed -nE 's/^  (--[a-z-]+).*/\1/p')
    elif [[ $prev == --* && $prev != *[^a-z-]* ]]; then
        # Words in capitals stand for something.
        list=$(_minivmm_choices "$program" "$prev" | grep -E '^[a-z0-9]+M?:?$')
    fi
    if [[ -n $list ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
    fi
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default # names of files
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace
    fi
}

complete -F _minivmm minivmm
