# SPDX-License-Identifier: Apache-2.0
# bash completion for minivmm. What there is to complete is asked of the program itself: --help has a
# line for each option, and for each key of an option's value, with its choices between bars.

_minivmm_choices() {
    "$1" --help 2>/dev/null | sed -nE "s/^  $2[ =]([^ ]+).*/\1/p" | tr '|' '\n' | sed 's/:.*/:/'
}

# "KEY=CHOICES" for each key of an option.
_minivmm_keys() {
    "$1" --help 2>/dev/null | sed -nE "/^Keys of $2 /,/^$/s/^  ([a-z_]+=[^ ]*).*/\1/p"
}

# The last part of a value with keys: "FILE,KEY=VALUE,…". $3 is that part, $4 what is before it in
# the word that bash completes.
_minivmm_complete_key() {
    local keys list

    [[ ${3%%=*} == *[^a-z_]* ]] && return
    keys=$(_minivmm_keys "$1" "$2")
    if [[ $3 == *=* ]]; then
        list=$(sed -n "s/^${3%%=*}=//p" <<<"$keys" | tr '|' '\n' | grep -E '^[a-z0-9_]+$')
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "${3#*=}")
    else
        list=$(cut -d= -f1 <<<"$keys")
        mapfile -t COMPREPLY < <(compgen -P "$4" -S = -W "$list" -- "$3")
        compopt -o nospace
    fi
}

_minivmm() {
    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} i=$COMP_CWORD
    local word=$cur prev list=

    # '=' and ':' are words of their own where they break words.
    while ((i > 1)) && [[ ${COMP_WORDS[i]} == [=:] || ${COMP_WORDS[i - 1]} == [=:] ]]; do
        i=$((i - 1))
        word=${COMP_WORDS[i]}$word
    done
    prev=${COMP_WORDS[i - 1]}
    if [[ $word == --*=* ]]; then
        prev=${word%%=*}
        word=${word#*=}
    fi

    COMPREPLY=()
    if [[ $word == -* ]]; then
        list=$("$program" --help 2>/dev/null | sed -nE 's/^  (--[a-z-]+).*/\1/p')
    elif [[ $prev == --* && $prev != *[^a-z-]* ]]; then
        if [[ $word == *,* || $(_minivmm_choices "$program" "$prev") == [a-z]*=* ]]; then
            _minivmm_complete_key "$program" "$prev" "${word##*,}" "${cur%"${word##*,}"}"
        else
            # Words in capitals stand for something.
            list=$(_minivmm_choices "$program" "$prev" | grep -E '^[a-z0-9]+M?:?$')
        fi
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
