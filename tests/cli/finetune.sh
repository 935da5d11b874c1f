# CLIP from words to verdicts: text, extract, finetune from the store and from the images, stop, resume, eval, calibrate,
# score; two classes of 16x16 pictures, bright on the left or on top, and a model that fits in 60 kB.
root=$(dirname "$0")/../..
clip=$(realpath "$root/tests/golden/clip/words")
mkdir set
perl -e '
  for my $split (["train", 90], ["t10k", 30]) {
    my ($name, $n) = @$split; my ($p, $l) = ("", "");
    for my $i (0..$n-1) { my $c = $i % 2; $l .= chr($c);
      for my $y (0..15) { for my $x (0..15) {
        my $on = $c ? $x < 8 : $y < 8; $p .= chr(($on ? 180 : 40) + ($i * $i * 37 + $n * ($x + 3) + $x * 11 + $y * 5) % 61); } } }
    open F, ">", "set/$name-images-idx3-ubyte"; binmode F; print F pack("C4N3", 0,0,8,3,$n,16,16), $p;
    open F, ">", "set/$name-labels-idx1-ubyte"; binmode F; print F pack("C4N", 0,0,8,1,$n), $l; }'
printf '0\tbright top\n1\tbright left\n' >classes
cat >tiny.yaml <<'END'
base: clip-imagenet100
name: tiny
first_block: 0
batch: 32
epochs: 2
start_epoch: 1
lr: 0.02
loss: ce
ring: 32
k: 8
select: 8
pick: 2
noise: 16
keep: 2
knn_k: 5
END
try() {
    echo "\$ npos $1"
    npos "$@" 2>error
    status=$?
    if ((status != 0)); then
        echo "-> $status"
        grep -E '^(npos: error|hint)' error | sed "s|$PWD/||g; s|$clip|CLIP|g"
    fi
}
export NPOS_RECIPES=$root/recipes
try text --clip "$clip" --classes classes --out t.safetensors
try extract --clip "$clip" --data set#train --out tokens --block 0
try finetune --recipe tiny.yaml --clip "$clip" --features tokens --text t.safetensors --out whole
try finetune --recipe tiny.yaml --clip "$clip" --data set --text t.safetensors --out parts --stop-after-epoch 1 |
    grep -v error
try finetune --out parts --resume
cmp whole/clip/model.safetensors parts/clip/model.safetensors && echo "same weights"
(cd whole && ls . clip | sed 's/\.tfevents\..*/.tfevents/')
for key in loss loss_ce loss_open loss_comp prototype_min_distance; do
    grep -c "\"$key\":[0-9-]" whole/log.jsonl
done
try eval whole --id set#test --ood near/self=set#test --score mcm,maxlogit,energy,knn,head --json | tr -d ' \n' |
    grep -oE '"score":"[a-z]*"' | sort -u | tr -d '\n'
echo
try calibrate whole --id set#test --json calibration.json | grep -c .
try finetune --recipe tiny.yaml --clip "$clip" --data set --out named
try finetune --recipe tiny.yaml --clip "$clip" --data set#class=1 --text t.safetensors --out named
try finetune --recipe tiny.yaml --clip "$clip" --features tokens --text t.safetensors --out named --set first_block=1
try finetune --recipe cifar10 --clip "$clip" --data set --out named
try train --recipe tiny.yaml --data set --out named
