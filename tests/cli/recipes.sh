# Recipes are listed with their first comment line; shown ones can be read back.
export NPOS_RECIPES=$PWD/recipes
mkdir recipes
printf '# A small one\nname: tiny\nepochs: 3\nstart_epoch: 1\n' >recipes/tiny.yaml
printf 'name: bare\n' >recipes/bare.yaml
touch recipes/notes.txt
npos recipes
npos recipes list | wc -l
npos recipes show tiny >shown.yaml && grep -E '^(name|epochs|start_epoch|batch):' shown.yaml | sed 's/ *#.*//'
npos recipes show ./shown.yaml | cmp - shown.yaml
npos recipes show tiyn 2>error
echo "-> $?"
sed "s|$PWD|HERE|" error
NPOS_RECIPES=$PWD/none npos recipes 2>&1 | sed "s|$PWD|HERE|"
