# Measures from score files: the table, the JSON, and what is wrong with an input.
npy() { # npy FILE VALUE...: float64
    perl -e '$f = shift; open F, ">", $f; binmode F;
        $h = sprintf("{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": (%d,), }", scalar @ARGV);
        $h =~ tr/"/\x27/; $h .= " " x (117 - length $h) . "\n";
        print F "\x93NUMPY\x01\x00", pack("v", length $h), $h, pack("d<*", @ARGV);' -- "$@"
}
npy id.npy $(seq 1 40)
npy far.npy $(seq -19 20)
npy near.npy $(seq 21 60)
npos metrics --id id.npy --ood far/a=far.npy --ood near/b=near.npy
echo "-> $?"
npos metrics --id id.npy --ood far/a=far.npy near/b=near.npy --json | tr -d ' \n' | cut -c1-60
echo
npos metrics --id id.npy --ood a=far.npy --larger ood --json out.json >table
grep -o '"auroc": [0-9.]*' out.json | head -1
echo "id: $(grep -c . table) lines"
npos metrics --id id.npy --ood a=far.npy --protocol openood | head -1

for format in md csv latex; do
    npos metrics --id id.npy --ood far/a_1=far.npy near/b=near.npy --format $format
done
npos metrics --id id.npy --ood far/a=far.npy near/b=near.npy --protocol openood --format openood
npos metrics --id id.npy --ood a=far.npy --format json | tr -d ' \n' | cut -c1-60
echo

for arguments in '--id none.npy --ood a=far.npy' '--id id.npy --ood far.npy' \
    '--id id.npy --ood a=far.npy --ood a=near.npy' '--id id.npy --ood a=text.npy' \
    '--id id.npy --ood a=nan.npy' '--id id.npy --ood a=empty.npy' \
    '--id id.npy --ood a=far.npy --json no/such/folder/out.json'; do
    echo text >text.npy
    npy nan.npy 1 nan 2
    npy empty.npy
    npos metrics $arguments >/dev/null
    echo "-> $?" >&2
done
