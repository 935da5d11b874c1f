# npos data check on .npy sets: what is printed, the exit status, JSON on standard output, wrong usage.
set_of() { # NAME BYTE...: one image of 2 x 2 a byte, a ramp from it
    printf '\x93NUMPY\x01\x00\x46\x00' >"$1.npy"
    printf '%-69s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': ($(($# - 1)), 2, 2), }" >>"$1.npy"
    for byte in "${@:2}"; do
        printf "\\x$byte\\x$(printf %02x $((0x$byte + 40)))\\x00\\x$byte" >>"$1.npy"
    done
}
try() {
    echo "\$ npos${*:+ $*}"
    npos "$@" 2>&1 | grep -vE '^(read|compare)'
    echo "-> ${PIPESTATUS[0]}"
}
set_of id 20 40 60 60
set_of ood 60 80
printf '# grey\nname: grey\nchannels: 1\nimage_size: 8\nmean: "0.2860"\nstd: "0.3530"\n' >fashion.yaml
try data check id.npy --ood far/other=ood.npy --near -1
try data check id.npy --recipe ./fashion.yaml
try data check id.npy --recipe ./fashion.yaml --any-statistics
npos data check id.npy --json 2>/dev/null | grep -E '"(exact|images|mean|schema)"' | tr -d ' '
npos data check id.npy --html page.html >/dev/null 2>&1
head -c 15 page.html
echo
try data show id.npy --out sheet.png --columns 3 --rows 1
head -c 4 sheet.png | tail -c 3
echo
try data show id.npy
try data show id.npy --out sheet.png --size 4
try data show id.npy --out not/there.png
try data check
try data check nothing.npy
try data check id.npy --near 64
exit 0
