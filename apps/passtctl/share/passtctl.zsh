#compdef passtctl
# zsh completion for passtctl(1).
_arguments \
  '(-s --socket)'{-s+,--socket=}'[control socket]:path:_files' \
  '--protocol=[only flows of it]:protocol:(tcp udp icmp)' \
  '--json[an object of JSON per line]' \
  '--watch[again every second]' \
  '--once[a single table]' \
  '--namespace[listen in the namespace]' \
  '(-h --help)'{-h,--help}'[show a short text]' \
  '--version[show the version]' \
  '1:command:(flows top forwards policy stats metrics capture version)' \
  '2:what:(list add remove start stop show reload test check)' \
  '*::argument:_files'
