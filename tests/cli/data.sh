# The catalogue of data sets: what is listed, what is there, wrong usage; names in the place of SPECs.
try() {
    echo "\$ npos${*:+ $*}"
    npos "$@" 2>&1
    echo "-> $?"
}
mkdir -p datasets/MNIST/raw datasets/small_OOD_dataset/dtd other/SVHN
echo notes >datasets/small_OOD_dataset/dtd/notes.bin
printf 'not a MATLAB file' >other/SVHN/test_32x32.mat
npos data list >table
head -1 table
grep -cE '^[a-z0-9-]+ +(ID|near|far)' table
grep -E '^(cifar10|svhn|dtd|mnist|sun) ' table
grep -A9 '^benchmarks' table
try data list svhn-select imagenet-100 npos-cifar
try data list --root other svhn
NPOS_DATA=other npos data list svhn | grep here
npos data list --json | head -c 120
echo
npos data list --names | paste -sd' '
try data fetch
try data fetch svnh
try data fetch imagenet-100
try data fetch openood-cifar10
try data fetch dtd mnist
try data
try data lits
try data list svnh
try data list --root
try embed runs/a --data svhn --out h.npy
try eval runs/a --ood svhn lsun-c npos-imagenet
try eval runs/a --ood svhn lsunc
mkdir run
try eval run --ood npos-cifar svhn
exit 0
