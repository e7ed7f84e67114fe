"""The bundled sample sources, served over real HTTP on loopback."""

from app.demo.server import SampleSources, sample_sources

__all__ = ["SampleSources", "sample_sources"]
