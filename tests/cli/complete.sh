# The completion script is valid and completes commands, options, values and recipes.
export NPOS_RECIPES=$PWD/recipes
mkdir recipes
printf '# A small one\nname: tiny\n' >recipes/tiny.yaml
printf '# A large one\nname: huge\n' >recipes/huge.yaml
npos completion bash >bash-script
bash -n bash-script
source ./bash-script
compopt() { :; }
complete_words() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _npos
    echo "$*| ${COMPREPLY[*]}"
}
complete_words npos ''
complete_words npos tr
complete_words npos train --re
complete_words npos train --recipe ''
complete_words npos train --recipe t
complete_words npos train --precision ''
complete_words npos eval --protocol o
complete_words npos help ca
complete_words npos recipes s
complete_words npos recipes show h
complete_words npos bench --only k
touch picture.png
complete_words npos score pic
complete_words npos data ''
complete_words npos data list --
complete_words npos data list cifar1
complete_words npos eval runs/a --ood openood-c
