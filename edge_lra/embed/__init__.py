"""Put a runner's sources and a bundle into an app's tree, with the code that calls them."""

from edge_lra.embed.app import Embedded, EmbedRequest, embed

__all__ = ["EmbedRequest", "Embedded", "embed"]
