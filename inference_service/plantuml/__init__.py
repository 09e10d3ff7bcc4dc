"""PlantUML mode: from a scenario to a source that renders, and from a source to SVG and PNG."""
