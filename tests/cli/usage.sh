# Wrong usage: one error line, one hint line, exit status 2.
try() {
    echo "\$ npos${*:+ $*}" >&2
    npos "$@"
    echo "-> $?" >&2
}
try
try --verbosity
try trian
try xyzzy
try train --recpie cifar10
try train --frobnicate
try train -x
try train --recipe
try train --recipe --out runs/a
try train --recipe=
try train --resume=yes --recipe a
try train
try train --out runs/a
try train --recipe cifar10 extra
try train --threads two
try train --threads 99999999999
try train --precision fp16
try finetune
try finetune --out runs/a
try eval
try eval a b
try eval runs/a
try eval runs/a --protocol odin --ood a=b
try eval runs/a --seed -1 --ood a=b
try metrics
try metrics --id a.npy
try metrics --larger up
try score runs/a
try score runs/a x.png --threshold high
try score runs/a x.png --threshold nan
try embed runs/a
try embed runs/a --data x
try calibrate runs/a
try report
try info extra
try recipes drop
try recipes show
try recipes list all
try help trane
try completion
try completion fish
exit 0
