#!/usr/bin/env bash
# Fuzzes the readers of tokens, key sets, JSON, bundles, packed events and sealed values for FUZZ_SECONDS in all (60),
# guided by coverage, on one core: fuzz.sh [TARGET]... (token, key_set, strict_json, bundle, packed, sealed). A finding
# stays in target/fuzz/findings; once mended it belongs into tests/hostile_tokens, tests/audit_vectors or
# tests/secret_vectors, which the seeds are made of.
#
# libFuzzer with the stable toolchain: cargo-fuzz would set the same flags and wants a nightly one for -Zsanitizer only.
# Without AddressSanitizer, which has little to find here: neither the readers nor serde_json use `unsafe` much.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
seconds=${FUZZ_SECONDS:-60}
targets=("$@")
if ((${#targets[@]} == 0)); then targets=(token key_set strict_json bundle packed sealed); fi
triple=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
folder=target/fuzz

# Not --locked: fuzz/Cargo.lock may lag behind the library's dependencies. With --target the flags are for the fuzzed
# code alone, and build scripts stay as they are.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing" \
    "${CARGO:-cargo}" build --quiet --release --manifest-path fuzz/Cargo.toml --target-dir "$folder" --target "$triple"
programs=$folder/$triple/release

rm -rf "$folder/seeds"
"$programs/seeds" "$folder/seeds"
mkdir -p "$folder/findings" "$folder/logs"

broken=()
for target in "${targets[@]}"; do
    mkdir -p "$folder/corpus/$target"
    log=$folder/logs/$target.log
    # What earlier runs found interesting comes first, so that each run goes on where the last one ended.
    if "$programs/$target" -max_total_time=$((seconds / ${#targets[@]})) -max_len=20000 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$folder/findings/$target-" \
        "$folder/corpus/$target" "$folder/seeds/$target" >"$log" 2>&1; then
        say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs," \
            "$(grep -aoE 'cov: [0-9]+' "$log" | tail -1 | cut -d' ' -f2) edges," \
            "$(find "$folder/corpus/$target" -type f | wc -l) inputs kept"
    else
        broken+=("$target")
        grep -a -A2 -E 'panicked at|ERROR: libFuzzer|Test unit written' "$log" || tail -20 "$log"
    fi
done
if ((${#broken[@]})); then die "the fuzzer broke ${broken[*]}; the inputs are in $folder/findings"; fi
