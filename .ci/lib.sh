# Sourced by the scripts of .ci: how they tell what they do.
# shellcheck shell=bash

ci_failures=0

# ci_fail FILE:LINE MESSAGE
ci_fail() {
    echo "$1: $2"
    ci_failures=$((ci_failures + 1))
}

# ci_end NAME COUNT_OF_CHECKED_THINGS
ci_end() {
    if ((ci_failures > 0)); then
        echo "$1: $ci_failures failed"
        exit 1
    fi
    echo "$1: $2 passed, 0 failed"
}

# Tracked files that match the patterns and still exist.
ci_files() {
    local file
    git -c safe.directory='*' ls-files -- "$@" | while read -r file; do
        if [[ -f $file ]]; then echo "$file"; fi
    done
}
