"""An inference gateway for clusters of LLM serving replicas: a prompt goes in, tokens come out, whatever happens."""

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"
