# bash completion for passtctl(1).
_passtctl() {
  local IFS=$'\n' word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} i command=
  COMPREPLY=()
  case $before in
    -s|--socket) COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames 2>/dev/null; return ;;
    --protocol) COMPREPLY=($(IFS=" "; compgen -W "tcp udp icmp" -- "$word")); return ;;
    forwards) COMPREPLY=($(IFS=" "; compgen -W "list add remove" -- "$word")); return ;;
    add|remove) COMPREPLY=($(IFS=" "; compgen -W "tcp udp" -- "$word")); return ;;
    capture) COMPREPLY=($(IFS=" "; compgen -W "start stop" -- "$word")); return ;;
    policy) COMPREPLY=($(IFS=" "; compgen -W "show reload test check" -- "$word")); return ;;
    start|reload|check) COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames 2>/dev/null; return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      -s|--socket|--protocol) ((i++)) ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ $word != -* && -z $command ]]; then
    COMPREPLY=($(IFS=" "; compgen -W "flows top forwards policy stats metrics capture version" -- "$word"))
  elif [[ $word == -* ]]; then
    COMPREPLY=($(IFS=" "; compgen -W "-s --socket --protocol --json --watch --once --namespace -h --help --version" -- "$word"))
  fi
}
complete -F _passtctl passtctl
