#!/bin/sh
# Makes the sample documents of samples/made/ from their sources in samples/src/. Only what is older
# than its source is made again. LibreOffice converts the flat ODF files; mutool turns two of the PDFs
# into pictures, as a scanner and a fax machine would.
set -eu
cd "$(dirname "$0")/.."
src=samples/src
made=samples/made
mkdir -p "$made"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

stale() { [ ! -s "$made/$1" ] || [ "$src/$2" -nt "$made/$1" ] ||
    [ scripts/make-samples.sh -nt "$made/$1" ]; }

need() {
    command -v "$1" >/dev/null || {
        echo "make-samples: $1 is missing: install $2" >&2
        exit 1
    }
}

# convert FORMAT SOURCE…: flat ODF to $tmp/NAME.FORMAT, in one run of a profile of its own.
convert() {
    format=$1
    shift
    need soffice "libreoffice-writer, libreoffice-calc and libreoffice-impress"
    soffice -env:UserInstallation="file://$tmp/profile" --headless --norestore --convert-to "$format" \
        --outdir "$tmp" "$@" >"$tmp/soffice.log" 2>&1 || {
        cat "$tmp/soffice.log" >&2
        exit 1
    }
    for file; do
        name=$(basename "$file")
        [ -s "$tmp/${name%.*}.$format" ] || {
            cat "$tmp/soffice.log" >&2
            echo "make-samples: $file was not converted to $format" >&2
            exit 1
        }
    done
}

# Little-endian numbers, as bytes.
u16() { printf "\\$(printf %03o $(($1 & 255)))\\$(printf %03o $(($1 >> 8 & 255)))"; }
u32() { u16 $(($1 & 65535)) && u16 $(($1 >> 16)); }
tag() { u16 "$1" && u16 "$2" && u32 1 && u32 "$3"; } # TAG TYPE VALUE

# fax OUT PBM…: black and white pictures as the frames of a TIFF file. The rows of a PBM are those of
# an uncompressed bilevel TIFF; each frame is its directory, its resolution, its picture.
fax() {
    out=$1
    shift
    { printf 'II' && u16 42 && u32 8; } >"$out"
    n_left=$#
    for pbm; do
        n_left=$((n_left - 1))
        read -r width height <<END
$(head -n 4 "$pbm" | tr '\n' ' ' | sed 's/^P4 *//; s/#[^0-9]*//' | cut -d ' ' -f 1,2)
END
        size=$(((width + 7) / 8 * height))
        at=$(wc -c <"$out")
        resolution=$((at + 2 + 10 * 12 + 4))
        picture=$((resolution + 8))
        next=$((picture + (size + 1) / 2 * 2))
        [ "$n_left" -gt 0 ] || next=0
        {
            u16 10
            tag 256 4 "$width"
            tag 257 4 "$height"
            tag 258 3 1          # bits a sample
            tag 259 3 1          # not compressed
            tag 262 3 0          # 0 is white
            tag 273 4 "$picture"
            tag 278 4 "$height"  # rows in the one strip
            tag 279 4 "$size"
            tag 282 5 "$resolution"
            tag 283 5 "$resolution"
            u32 "$next"
            u32 "$fax_dpi" && u32 1
            tail -c "$size" "$pbm"
            [ $((size % 2)) -eq 0 ] || printf '\000'
        } >>"$out"
    done
}
fax_dpi=200

# What is what already.
for file in management-minutes-2025-11-04.md press-release-polaris-42.html price-list-2026.csv \
    travel-policy.txt nagoya-office-guide.txt; do
    if stale "$file" "$file"; then
        cp "$src/$file" "$made/$file"
    fi
done

# NAME.FORMAT from NAME.SOURCE-FORMAT, one run of LibreOffice a format.
office() {
    format=$1
    shift
    todo=
    for file; do
        name=${file%.*}
        ! stale "$name.$format" "$file" || todo="$todo $src/$file"
    done
    [ -n "$todo" ] || return 0
    # shellcheck disable=SC2086 # names without spaces, of our own
    convert "$format" $todo
    for file in $todo; do
        name=$(basename "${file%.*}")
        mv "$tmp/$name.$format" "$made/$name.$format"
    done
}
office docx warehouse-lease.fodt betriebsvereinbarung-mobiles-arbeiten.fodt
office pptx product-roadmap-2026.fodp
office xlsx budget-2026.fods
office odt safety-data-sheet-klarblick.fodt
office pdf annual-report-2025.fodt edge-polishing-abstract.fodt

# Paper: an invoice laid on the glass a little askew, and a fax of two pages.
if stale invoice-lens-blanks.png invoice-lens-blanks.fodt; then
    need mutool mupdf-tools
    convert pdf "$src/invoice-lens-blanks.fodt"
    mutool draw -q -r 150 -R 0.6 -c gray -o "$tmp/invoice.png" "$tmp/invoice-lens-blanks.pdf" \
        2>"$tmp/mutool.log"
    mv "$tmp/invoice.png" "$made/invoice-lens-blanks.png"
fi
if stale customs-fax.tiff customs-fax.fodt; then
    need mutool mupdf-tools
    convert pdf "$src/customs-fax.fodt"
    mutool draw -q -r "$fax_dpi" -A 0 -o "$tmp/fax-%d.pbm" "$tmp/customs-fax.pdf" 2>"$tmp/mutool.log"
    fax "$tmp/fax.tiff" "$tmp"/fax-*.pbm
    mv "$tmp/fax.tiff" "$made/customs-fax.tiff"
fi
