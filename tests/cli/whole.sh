# A run from images to verdicts: train, stop, resume, eval, calibrate, score, embed; two classes of
# 16x16 pictures, bright on the left or on top.
mkdir set
perl -e '
  for my $split (["train", 96], ["t10k", 32]) {
    my ($name, $n) = @$split; my ($p, $l) = ("", "");
    for my $i (0..$n-1) { my $c = $i % 2; $l .= chr($c);
      for my $y (0..15) { for my $x (0..15) {
        my $on = $c ? $x < 8 : $y < 8; $p .= chr(($on ? 180 : 40) + ($i * $i * 37 + $n * ($x + 3) + $x * 11 + $y * 5) % 61); } } }
    open F, ">", "set/$name-images-idx3-ubyte"; binmode F; print F pack("C4N3", 0,0,8,3,$n,16,16), $p;
    open F, ">", "set/$name-labels-idx1-ubyte"; binmode F; print F pack("C4N", 0,0,8,1,$n), $l; }'
cat >tiny.yaml <<'END'
# Tiny.
name: tiny
encoder: resnet-small
stem: 3x3
width: 8
image_size: 16
channels: 1
batch: 16
epochs: 2
start_epoch: 1
ring: 32
k: 8
select: 8
pick: 2
noise: 16
keep: 2
knn_k: 5
mean: 0.5
std: 0.25
END
try() {
    echo "\$ npos $1 $2"
    npos "$@" 2>error
    status=$?
    if ((status != 0)); then
        echo "-> $status"
        grep '^npos: error' error | sed "s|$PWD/||g"
    fi
}
try train --recipe tiny.yaml --data set --out whole --threads 2
try train --recipe tiny.yaml --data set --out parts --threads 1 --stop-after-epoch 1 | grep -v error
try train --recipe tiny.yaml --data set --out parts --threads 2 --resume
cmp whole/model.safetensors parts/model.safetensors && echo "same weights"
(cd whole && ls | sed 's/\.tfevents\..*/.tfevents/')
try eval whole --id set#test --ood near/self=set#test --json | tr -d ' \n' |
    grep -oE '"(schema|protocol|positive|score|fpr95|auroc|aupr_in|aupr_out|fpr95_ci|auroc_ci|near|all)":' |
    sort -u | tr -d '"\n'
echo
try compare whole --format csv | cut -d, -f1-5,37-
try calibrate whole --id set#test --json calibration.json | grep -c .
tr -d ' \n' <calibration.json | grep -oE '"(tpr|threshold|score)":' | sort -u
try embed whole --data set#test --out h.npy --labels y.npy
head -c 6 h.npy | tail -c 5
echo " $(stat -c %s y.npy)"
try embed whole --data set#test --out h.npy --logits l.npy
try eval whole --id set#test --ood none=nowhere
try eval nowhere --ood a=set#test
try train --recipe tiny.yaml --data set --out other --set epoch=3
try train --recipe tiny.yaml --data set --out other --set batch=1000
