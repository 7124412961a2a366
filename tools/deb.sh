#!/usr/bin/env bash
# Makes Debian packages in a folder, and prints the path of each:
# deb.sh FOLDER LIBRARY SQL_FOLDER PROGRAM
#   postgresql-$PG-pg-tenancy         the extension, where Debian and apt.postgresql.org have those of Postgres $PG
#   postgresql-$PG-pg-tenancy-dbgsym  its line tables, which are in LIBRARY.debug
#   pg-tenancy-verify                 the program for auditors, static, for machines without Postgres
# They are the same to the byte for the same files, version and SOURCE_DATE_EPOCH (the commit's time unless given).
# DEBFULLNAME and DEBEMAIL are the maintainer. DEB_COMPRESSION replaces xz: DEB_COMPRESSION='gzip -z1' is quick.
source "$(dirname "$0")/lib.sh"

folder=$(realpath -m "$1") library=$(realpath "$2") sql_folder=$3 program=$4
for tool in dpkg-deb dpkg-shlibdeps objcopy readelf; do
    command -v "$tool" >/dev/null || die "$tool is missing. Install dpkg-dev and binutils."
done

# Before it is in the changelog, a version sorts below the released one.
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$ROOT/pg_tenancy.control")
released=$(sed -n "s/^## \[$version\] - //p" "$ROOT/CHANGELOG.md")
revision=$version$([[ -n $released ]] || echo '~dev')-1
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-pg_tenancy developers} <${DEBEMAIL:-pg-tenancy@example.invalid}>"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null || echo 0)}
extension=postgresql-$PG-pg-tenancy
read -ra compression <<<"${DEB_COMPRESSION:-xz}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"

# change REVISION TIME: an entry of the changelog in Debian's form.
change() {
    printf 'pg-tenancy (%s) unstable; urgency=medium\n\n  * changelog.gz lists the changes.\n\n -- %s  %s\n\n' \
        "$1" "$maintainer" "$(date -uR -d "$2")"
}

# begin NAME CRATE: the tree of a package, with what each has.
begin() {
    name=$1 tree=$work/$1
    local doc=$tree/usr/share/doc/$name
    mkdir -p "$tree/DEBIAN" "$doc"
    {
        if [[ -z $released ]]; then change "$revision" "@$SOURCE_DATE_EPOCH"; fi
        sed -n 's/^## \[\([0-9.]*\)\] - /\1 /p' "$ROOT/CHANGELOG.md" \
            | while read -r number day; do change "$number-1" "$day"; done
    } | gzip -9n >"$doc/changelog.Debian.gz"
    gzip -9nc "$ROOT/CHANGELOG.md" >"$doc/changelog.gz"
    # A line of a licence begins with a blank there, and an empty one has a dot.
    { cat "$ROOT/tools/debian/copyright"; sed '1,/^Copyright/d' "$ROOT/LICENSE" | sed '1d; s/^$/./; s/^/ /'; } \
        >"$doc/copyright"
    "$ROOT/tools/debian/licenses.py" "$2" >"$work/licenses"
    gzip -9nc "$work/licenses" >"$doc/third-party-licenses.gz"
}

# The packages of the shared libraries that the library needs.
depends() {
    mkdir -p "$work/shlibs/debian"
    touch "$work/shlibs/debian/control"
    (cd "$work/shlibs" && dpkg-shlibdeps -O "$library" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p' | grep .
}

# finish: the control file, with the fields and the description of standard input, then the package.
finish() {
    local file size
    find "$tree" -type d -exec chmod 755 {} +
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    # As dh_gencontrol counts: a kibibyte for each begun one, and for each folder.
    size=$(find "$tree/usr" -type f -printf '%s\n' -o -printf '1\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
    {
        printf '%s\n' "Package: $name" 'Source: pg-tenancy' "Version: $revision" "Architecture: $architecture" \
            "Maintainer: $maintainer" "Installed-Size: $size"
        cat
    } >"$tree/DEBIAN/control"
    chmod 644 "$tree"/DEBIAN/*
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    file=$folder/${name}_${revision}_$architecture.deb
    dpkg-deb --root-owner-group --threads-max=1 "-Z${compression[0]}" "${compression[@]:1}" --build "$tree" "$file" >/dev/null
    echo "$file"
}

depends=$(depends) || die "dpkg-shlibdeps does not say what $library needs"
begin "$extension" pg_tenancy
install -D -m 644 "$library" "$tree/usr/lib/postgresql/$PG/lib/pg_tenancy.so"
install -D -m 644 -t "$tree/usr/share/postgresql/$PG/extension" "$ROOT/pg_tenancy.control" "$sql_folder"/pg_tenancy--*.sql
sed "s/@PG@/$PG/g" "$ROOT/tools/debian/README.Debian" >"$tree/usr/share/doc/$name/README.Debian"
finish <<END
Depends: postgresql-$PG, $depends
Suggests: pg-tenancy-verify
Section: database
Priority: optional
Description: multi-tenant security inside PostgreSQL $PG
 pg_tenancy verifies the token of a user in the database, and from there on
 isolates tenants by forced row-level security, checks the permissions of
 roles, and writes a hash-chained audit event with each change.
 .
 This package has the extension for PostgreSQL $PG.
END

build_id=$(readelf -n "$library" | sed -n 's/^ *Build ID: //p')
[[ -n $build_id ]] || die "$library has no build id"
[[ $build_id == "$(readelf -n "$library.debug" | sed -n 's/^ *Build ID: //p')" ]] \
    || die "$library.debug is not of $library: their build ids differ"
name=$extension-dbgsym tree=$work/$extension-dbgsym
mkdir -p "$tree/DEBIAN" "$tree/usr/share/doc" "$tree/usr/lib/debug/.build-id/${build_id:0:2}"
objcopy --compress-debug-sections "$library.debug" "$tree/usr/lib/debug/.build-id/${build_id:0:2}/${build_id:2}.debug"
chmod 644 "$tree/usr/lib/debug/.build-id/${build_id:0:2}/${build_id:2}.debug"
ln -s "$extension" "$tree/usr/share/doc/$name"
finish <<END
Depends: $extension (= $revision)
Section: debug
Priority: optional
Auto-Built-Package: debug-symbols
Build-Ids: $build_id
Description: debug symbols for $extension
END

begin pg-tenancy-verify pg-tenancy-verify
if readelf -d "$program" | grep -q NEEDED; then die "$program is not static"; fi
install -D -m 755 "$program" "$tree/usr/bin/pg-tenancy-verify"
mkdir -p "$tree/usr/share/man/man1" "$tree/usr/share/lintian/overrides"
gzip -9nc "$ROOT/docs/pg-tenancy-verify.1" >"$tree/usr/share/man/man1/pg-tenancy-verify.1.gz"
printf '%s\n' '# It runs on the machine of an auditor, whatever that has.' 'pg-tenancy-verify: statically-linked-binary' \
    'pg-tenancy-verify: shared-library-lacks-prerequisites' >"$tree/usr/share/lintian/overrides/pg-tenancy-verify"
finish <<END
Built-Using: $(dpkg-query -W -f='${source:Package} (= ${source:Version})' libc6-dev)
Section: database
Priority: optional
Description: checks bundles of the audit of pg_tenancy without the database
 pg_tenancy is an extension of PostgreSQL that writes a hash-chained audit.
 tenancy.export_evidence() exports a part of it as a bundle.
 .
 pg-tenancy-verify checks such a bundle against the key of whoever signed it,
 and says in words what the bundle proves. It needs neither PostgreSQL nor any
 other package.
END
