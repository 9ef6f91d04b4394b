"""Licences of packages as SPDX expressions, from their metadata only: licence texts are not analysed.

The sources are core metadata (License-Expression of PEP 639, else License and classifiers) and Debian's
machine-readable copyright files (DEP-5).
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST = 100  # characters: a longer `License` is a licence's text, not its name
_OSI = "License :: OSI Approved :: "
# The classifiers that mean exactly one licence in one version.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "Blue Oak Model License (BlueOak-1.0.0)": "BlueOak-1.0.0",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CEA CNRS Inria Logiciel Libre License, version 2.1 (CeCILL-2.1)": "CECILL-2.1",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "European Union Public Licence 1.1 (EUPL 1.1)": "EUPL-1.1",
    "European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PostgreSQL License": "PostgreSQL",
    "Python Software Foundation License": "PSF-2.0",
    "SIL Open Font License 1.1 (OFL-1.1)": "OFL-1.1",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Zero-Clause BSD (0BSD)": "0BSD",
    "zlib/libpng License": "Zlib",
}
_DEBIAN = {"expat": "MIT", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "apache-2": "Apache-2.0"}
_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(?:\.0)?(\+?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Licence:
    """An SPDX expression; or "" and, in `names`, the names in the package's metadata."""

    expression: str = ""
    names: tuple[str, ...] = ()


NO_LICENCE = Licence()


def licence_of(metadata: Mapping[str, Sequence[str]]) -> Licence:
    """Return the licence of a distribution. `metadata`: its core metadata, with names in lower case."""
    (stated,) = metadata.get("license-expression", [""])[:1]
    (text,) = metadata.get("license", [""])[:1]
    classifiers = [line for line in metadata.get("classifier", ()) if line.startswith("License :: ")]
    for words in (stated, text):
        if expression := spdx(words):
            return Licence(expression)
    known = [_CLASSIFIERS.get(line.removeprefix(_OSI), "") for line in classifiers]
    if len(known) == 1 and known[0]:
        return Licence(known[0])
    names = [stated, " ".join(text.split()), *(line.rpartition(" :: ")[2] for line in classifiers)]
    return Licence(names=tuple(dict.fromkeys(name for name in names if name and len(name) <= LONGEST)))


def parse_licence(words: str) -> Licence:
    """Return the licence for a name or an SPDX expression; an unknown name is kept in `names`."""
    expression = spdx(words) or spdx(words.replace("/", " OR "))  # the older form of Cargo: "MIT/Apache-2.0"
    return Licence(expression, (words[:LONGEST],) if words and not expression else ())


@functools.lru_cache(maxsize=256)
def spdx(words: str) -> str:
    """Return the canonical form of an SPDX expression, "" if it is not valid."""
    if not words or len(words) > LONGEST or "\n" in words:
        return ""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(words))
    except InvalidLicenseExpression:
        return ""


def debian_licence(copyright_file: str) -> Licence:
    """Return the licences in a machine-readable copyright file (DEP-5), with SPDX names if these are known.

    A single licence becomes an expression. Several become names: the files that each one applies to are not read.
    """
    if not copyright_file.startswith(("Format:", "Format-Specification:")):
        return NO_LICENCE
    lines = re.findall(r"^License:[ \t]*(\S[^\n]*)", copyright_file, re.MULTILINE)
    rows = [re.split(r"\s+(or|and)\s+", line.strip()) for line in lines if len(line) <= LONGEST]
    words = [[part.upper() if place % 2 else _debian(part) for place, part in enumerate(row)] for row in rows]
    names = tuple(sorted({" ".join(row) for row in words}))
    return parse_licence(names[0]) if len(names) == 1 else Licence(names=names)


def _debian(name: str) -> str:
    if gnu := _GNU.fullmatch(name):
        later = "or-later" if gnu[4] else "only"
        return f"{gnu[1].upper()}-{gnu[2]}.{gnu[3] or '0'}-{later}"
    return _DEBIAN.get(name.lower()) or spdx(name) or name
