# Results that cannot be written: a full device is an error, a reader that left ends npos quietly.
npos --help >/dev/full
echo "-> $?"
npos --help >&-
echo "-> $?"
{ sleep 0.3; npos --help; echo "$?" >status; } | true
cat status
