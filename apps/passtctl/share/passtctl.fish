# fish completion for passtctl(1).
complete -c passtctl -f
complete -c passtctl -n __fish_use_subcommand -a 'flows top forwards policy stats metrics capture version'
complete -c passtctl -n '__fish_seen_subcommand_from forwards' -a 'list add remove tcp udp'
complete -c passtctl -n '__fish_seen_subcommand_from capture' -a 'start stop' -F
complete -c passtctl -n '__fish_seen_subcommand_from policy' -a 'show reload test check' -F
complete -c passtctl -s s -l socket -r -F -d 'Control socket'
complete -c passtctl -l protocol -x -a 'tcp udp icmp' -d 'Only flows of it'
complete -c passtctl -l json -d 'An object of JSON per line'
complete -c passtctl -l watch -d 'Again every second'
complete -c passtctl -l once -d 'A single table'
complete -c passtctl -l namespace -d 'Listen in the namespace'
complete -c passtctl -s h -l help -d 'Show a short text'
complete -c passtctl -l version -d 'Show the version'
