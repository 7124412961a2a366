#!/usr/bin/env bash
# Wraps data keys with age (https://age-encryption.org), for a server without a key service:
#
#     tenancy.key_wrap_command = '/etc/postgresql/keys/age.sh %o %k'
#
# AGE_KEYS (default /etc/postgresql/keys) has two files for each key: %k.recipients, to which it is wrapped, and
# %k.identity, which unwraps it (`age-keygen`; with mode 0600). With a plugin the identity is on a token or in a TPM. A
# second recipient, whose identity is kept elsewhere, is the spare key: write it there before the key is registered,
# since what proves the key is wrapped only then. To give up an identity, register another key.
set -euo pipefail

operation=$1 key=$2 keys=${AGE_KEYS:-/etc/postgresql/keys}
# Other recipients are another version: rewrap_data_keys() wraps to them what was wrapped to others.
if [[ $operation == wrap ]]; then version=$(sha256sum <"$keys/$key.recipients"); fi

while read -r data_key organization value; do
    # age binds a file to nothing but its recipients, so what the key is bound to is wrapped with it.
    bound="$key $data_key $organization"
    case $operation in
        wrap)
            wrapped=$(printf '%s %s' "$bound" "$value" | age --encrypt --recipients-file "$keys/$key.recipients" \
                | base64 --wrap=0)
            printf '%s %s %s\n' "$data_key" "$wrapped" "${version:0:16}"
            ;;
        unwrap)
            unwrapped=$(printf '%s' "$value" | base64 --decode | age --decrypt --identity "$keys/$key.identity")
            [[ ${unwrapped% *} == "$bound" ]] || exit 3
            printf '%s %s\n' "$data_key" "${unwrapped##* }"
            ;;
        *) exit 2 ;;
    esac
done
