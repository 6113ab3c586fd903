# SPDX-License-Identifier: Apache-2.0
# bash completion for minivmm-ctl. What there is to complete is asked of the program itself.

_minivmm_ctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} line

    COMPREPLY=()
    # "iops=100" is three words where '=' breaks words: values are not completed.
    [[ $cur == "=" || ($COMP_CWORD -gt 0 && ${COMP_WORDS[COMP_CWORD - 1]} == "=") ]] && return
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default # names of files
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}

complete -F _minivmm_ctl minivmm-ctl
