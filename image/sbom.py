"""The bill of materials of a finished image, from what the image itself says is installed.

    docker create --name sbom doorward-sidecar && mkdir root && docker export sbom | tar -x -C root
    make --silent sbom ROOT=root > sidecar.cdx.json

Debian packages are read from dpkg's status file, Python packages from their metadata. The result is CycloneDX 1.6 JSON:
its components carry package URLs (purl), by which scanners find known faults. What is the same image gives the same
bytes but for the serial number and the time.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

DPKG_STATUS = "var/lib/dpkg/status"
PYTHON_PACKAGES = "opt/doorward/lib/python3.*/site-packages"


def components(root: Path) -> Iterator[Component]:
    """Every package installed in the root file system at `root`. Raises OSError where it is no image of Doorward."""
    places = [str(place) for place in root.glob(PYTHON_PACKAGES)]
    if not places:
        raise FileNotFoundError(f"{root / PYTHON_PACKAGES} is missing: is this the root of a Doorward image?")
    for entry in (root / DPKG_STATUS).read_text(encoding="utf-8").split("\n\n"):
        fields = Parser().parsestr(entry)
        if fields["Status"] == "install ok installed":
            where = {"arch": fields["Architecture"], "distro": "debian"}
            yield _component(PackageURL("deb", "debian", fields["Package"], fields["Version"], where))
    for found in distributions(path=places):
        yield _component(PackageURL("pypi", None, found.metadata["Name"].lower(), found.version))


def bill_of_materials(root: Path) -> str:
    """What is installed in the root file system at `root`, as CycloneDX 1.6 JSON. Raises OSError."""
    return str(JsonV1Dot6(Bom(components=components(root))).output_as_string(indent=2))


def _component(purl: PackageURL) -> Component:
    return Component(
        type=ComponentType.LIBRARY, name=purl.name, version=purl.version, purl=purl, bom_ref=purl.to_string()
    )


def main() -> int:
    """Print the bill of materials of the directory named on the command line."""
    parser = ArgumentParser(prog="make sbom", description="Print the bill of materials of an image's root, unpacked.")
    parser.add_argument("root", type=Path, help="the directory that holds the image's files")
    try:
        print(bill_of_materials(parser.parse_args().root))
    except OSError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
