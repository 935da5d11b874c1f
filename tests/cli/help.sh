# Help goes to stdout and succeeds, however it is asked for; a command's help comes even when other
# arguments are wrong behind it.
npos --help
npos help | cmp - <(npos --help)
npos -h | cmp - <(npos --help)
for command in train recipes eval metrics report score embed calibrate info bench help completion; do
    npos help $command >a || echo "help $command: $?"
    npos $command --help >b || echo "$command --help: $?"
    npos $command -h nonsense >c || echo "$command -h: $?"
    cmp a b
    cmp a c
    grep -q '^Usage: npos' a || echo "$command: no usage"
    grep -q '^Examples:' a || echo "$command: no examples"
    awk -v c=$command 'length > 80 && !/^  npos/ {print c ": long line: " $0}' a
done
