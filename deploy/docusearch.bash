# shellcheck shell=bash disable=SC2207 # a word an answer; bash 3.2 has no mapfile
# bash completion of docusearch: commands, their options, and the settings' flags, as the program
# itself tells them.

_docusearch_words() {
    # $1: help of what, "" for all; $2: what to find in it
    "${COMP_WORDS[0]/#\~/$HOME}" help ${1:+"$1"} 2>/dev/null | sed -n "$2"
}

_docusearch() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]}
    local commands='s/^  \([a-z][a-z-]*\) .*/\1/p' settings='s/^  \(--[a-z-]*\) .*/\1/p'
    local IFS=$' \t\n' choices
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "$(_docusearch_words '' "$commands")" -- "$current"))
        return
    fi
    case $command in
    help)
        COMPREPLY=($(compgen -W "settings $(_docusearch_words '' "$commands")" -- "$current"))
        return
        ;;
    esac
    if [[ $current == --* ]]; then
        COMPREPLY=($(compgen -W "--help $(_docusearch_words settings "$settings")
            $(_docusearch_words "$command" p | grep -o -e '--[a-z][a-z-]*')" -- "$current"))
        return
    fi
    case $before in
    --mode) choices='hybrid visual text lexical' ;;
    --sort) choices='newest_first oldest_first name_asc name_desc' ;;
    --store) choices='chroma index' ;;
    --state) choices='queued processing completed failed cancelled' ;;
    --*)
        # A setting that is one of several words.
        choices=$(_docusearch_words settings "\|^  $before |,\|^  --|s/.*: \([a-z0-9|]*\)\$/\1/p" |
            head -n 1 | tr '|' ' ')
        ;;
    esac
    if [[ -n ${choices:-} ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$current"))
    elif [[ $command == jobs && $COMP_CWORD -eq 2 ]]; then
        COMPREPLY=($(compgen -W 'cancel retry' -- "$current"))
    else
        compopt -o filenames 2>/dev/null
        IFS=$'\n'
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}

complete -F _docusearch docusearch
