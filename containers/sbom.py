"""The image's bill of materials in SPDX 2.3: every Python distribution and every package of the base.

`python -m foreshock.containers.sbom` writes it inside while the image is built. It says only what is there: licences
as packages declare them, NOASSERTION where they declare none, no date but the build's epoch.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

from foreshock.image_record import IMAGE_FOLDER, RECORD, SBOM

_FIELDS = "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_CLASSIFIERS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
    "The Unlicense (Unlicense)": "Unlicense",
}
_NAMES = {
    "MIT": "MIT", "MIT License": "MIT", "Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0", "Apache": "Apache-2.0", "Apache 2.0 License": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause", "BSD 3-Clause": "BSD-3-Clause",
    "BSD-2-Clause": "BSD-2-Clause", "MPL-2.0": "MPL-2.0", "PSF-2.0": "PSF-2.0",
}  # fmt: skip


def document(record: dict[str, Any], packages: Iterable[dict[str, Any]], epoch: int) -> dict[str, Any]:
    """An SPDX document of some packages (as `python_package` and `debian_packages` make them)."""
    listed = sorted(packages, key=lambda package: str(package["SPDXID"]))
    name = f"foreshock-{record['variant']}"
    content = str(record["content"]).rpartition(":")[2]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:foreshock:image:{name}:{content}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: foreshock"],
        },
        "comment": f"content {record['content']}, commit {record['git_commit']}, base {record['base']}, "
        f"djinn {record['djinn_commit'] or 'absent'}",
        "packages": listed,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in listed
        ],
    }


def python_package(name: str, version: str, licence: str) -> dict[str, Any]:
    """A Python distribution."""
    canonical = re.sub(r"[-_.]+", "-", name).lower()
    return _package("pypi", canonical, version, licence, f"pkg:pypi/{canonical}@{version}")


def declared_licence(facts: Any) -> str:
    """The SPDX expression that a distribution's metadata declare, NOASSERTION where they use free text."""
    expression = facts.get("License-Expression")
    if expression and _EXPRESSION.fullmatch(expression.replace("(", "").replace(")", "")):
        return str(expression)
    classified = {
        line.rpartition(" :: ")[2] for line in facts.get_all("Classifier") or [] if line.startswith("License")
    }
    known = sorted(_CLASSIFIERS[name] for name in classified if name in _CLASSIFIERS)
    if known:
        return " AND ".join(known)
    return _NAMES.get((facts.get("License") or "").strip(), "NOASSERTION")


def debian_packages(listing: str) -> list[dict[str, Any]]:
    """Packages of a `dpkg-query` listing. Their licences lie in the image as files, not as expressions."""
    found = []
    for line in listing.splitlines():
        name, version, architecture, state = line.split("\t")
        if state == "installed":
            purl = f"pkg:deb/{name}@{version}?arch={architecture}"
            package = _package("deb", name, version, "NOASSERTION", purl)
            package["comment"] = f"/usr/share/doc/{name}/copyright"
            found.append(package)
    return found


def _package(kind: str, name: str, version: str, licence: str, purl: str) -> dict[str, Any]:
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{name}-{version}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
    }


def main() -> int:
    """Write the document of the image that this runs in."""
    record = json.loads((IMAGE_FOLDER / RECORD).read_text(encoding="utf-8"))
    packages = [
        python_package(found.metadata["Name"], found.version, declared_licence(found.metadata))
        for found in distributions.distributions()
    ]
    try:
        listing = subprocess.run(["dpkg-query", "-W", "-f", _FIELDS], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listing = ""  # a base of another distribution
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    made = document(record, {str(p["SPDXID"]): p for p in (*packages, *debian_packages(listing))}.values(), epoch)
    Path(IMAGE_FOLDER / SBOM).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
