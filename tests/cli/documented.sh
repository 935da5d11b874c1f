# docs/cli.md holds the help texts as they are (`make docs` writes it anew).
root=$(dirname "$0")/../..
"$root/scripts/docs-cli" "$(realpath "$(command -v npos)")" | diff -u "$root/docs/cli.md" -
