"""The texts that the gallery's pages show: hostile, long, and ordinary."""

from datetime import UTC, datetime

NOW = datetime.now(UTC)
EVIL = """<script>alert(1)</script><img src=x onerror=alert(1)>'"{{7*7}}"""
LONG = "averylongnamewithoutanyspace" * 8
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCE = "@startuml\nactor User\nUser -> Shop : order\nShop -> Bank : confirm\n@enduml"
